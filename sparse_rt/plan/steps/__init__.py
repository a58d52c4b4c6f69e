"""The frozen steps that a plan is made of."""
