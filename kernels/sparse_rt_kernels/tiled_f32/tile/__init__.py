"""Register micro-kernels of the float32 tiles of any vector width."""
