"""Tile and block sizes of the float32 2:4 family, and how its calls are cut into tasks."""
