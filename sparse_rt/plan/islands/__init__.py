"""Order the work of a graph; what no kernel of ours runs is cut into islands for onnxruntime."""
