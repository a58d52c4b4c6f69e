"""Block sizes of the int8 2:4 family, derived from cache sizes."""
