"""Small networks of many forms, each a function of the sizes; see :mod:`tests.models.graphs.table`."""
