"""Prepared calls as custom operators of onnxruntime: compiled functions that speak its C interface, and their data."""
