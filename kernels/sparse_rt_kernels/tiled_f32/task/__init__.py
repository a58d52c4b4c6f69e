"""What one thread does in a call of the float32 tiles of any vector width."""
