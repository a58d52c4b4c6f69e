"""Patterns of nobody's, with all that a pattern needs: none of it is known to the packages."""
