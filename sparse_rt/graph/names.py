"""Names for new values of a model."""

import onnx_ir as ir

__all__ = ["fresh_name", "value_names"]


def value_names(model: ir.Model) -> set[str | None]:
    """Return the names of all values of a model, those in subgraphs included."""
    names: set[str | None] = set()
    for graph in model.graphs():
        names.update(value.name for value in graph.inputs)
        names.update(graph.initializers)
        names.update(output.name for node in graph for output in node.outputs)
    return names


def fresh_name(base: str, names: set[str | None]) -> str:
    """Return `base`, with a number behind it where a value has that name, and add it to `names`."""
    name, serial = base, 1
    while name in names:
        name, serial = f"{base}.{serial}", serial + 1
    names.add(name)
    return name
