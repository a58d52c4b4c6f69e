"""The nodes around a dense operator that its compressed operator holds as well: what they are, in and out."""
