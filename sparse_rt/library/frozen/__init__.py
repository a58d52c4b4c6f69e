"""Libraries for processes without Python: the calls of a model's kernels, prepared, written as data."""
