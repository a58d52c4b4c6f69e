"""The layers of a model: found, dense or compressed, and brought to one normal form."""
