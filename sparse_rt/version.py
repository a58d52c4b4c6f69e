"""The version of sparse_rt."""

__all__ = ["__version__"]

__version__ = "0.1.0"
