"""The int8 2:4 kernel for AVX-512 VNNI, and how its calls are prepared."""
