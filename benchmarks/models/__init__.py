"""Models of well-known shapes with random weights, for benchmarks and tests."""
