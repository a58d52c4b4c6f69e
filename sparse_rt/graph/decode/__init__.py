"""How stored weights are decoded in standard ONNX operators, one function body a format."""
