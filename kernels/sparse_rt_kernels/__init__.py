"""JIT-compiled sparse kernels: arrays and CPUs, never ONNX, never files."""
