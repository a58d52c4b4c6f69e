"""What one thread does in a call of the float32 2:4 family."""
