"""The hosted plan: one session of onnxruntime, in which segments of ours are operators and all else is its own."""
