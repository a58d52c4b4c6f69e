"""What both families of float32 kernels share."""
