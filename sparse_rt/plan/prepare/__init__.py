"""Bring a model to the form in which its layers are found."""
