"""The kernels of the float32 2:4 family, as the registry describes them, and how their calls are prepared."""
