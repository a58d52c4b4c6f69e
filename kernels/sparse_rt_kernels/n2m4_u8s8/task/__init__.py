"""What one thread does of an int8 2:4 product."""
