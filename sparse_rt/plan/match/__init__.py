"""Find what kernels of ours can run: layers with their neighbours, and the operators between."""
