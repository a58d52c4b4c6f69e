"""From a Python function to machine code that is kept on disk."""
