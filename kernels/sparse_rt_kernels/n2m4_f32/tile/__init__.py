"""Register micro-kernels of the float32 2:4 family: the tiles, and what brings data in and out of panels."""
