"""What changes a whole model: compress its layers, and decompress them."""
