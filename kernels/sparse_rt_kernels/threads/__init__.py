"""Prepared calls, and the workers that run them."""
