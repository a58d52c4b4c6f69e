"""Names for new values of a model."""

from collections.abc import Iterable

import onnx_ir as ir

__all__ = ["Names", "fresh_name", "value_names"]


class Names(set[str | None]):
    """Names that are taken, and the last number that was put behind each."""

    def __init__(self, names: Iterable[str | None] = ()) -> None:
        super().__init__(names)
        self.serials: dict[str, int] = {}


def value_names(model: ir.Model) -> Names:
    """Return the names of all values of a model, those in subgraphs included."""
    names = Names()
    for graph in model.graphs():
        names.update(value.name for value in graph.inputs)
        names.update(graph.initializers)
        names.update(output.name for node in graph for output in node.outputs)
    return names


def fresh_name(base: str, names: Names) -> str:
    """Return `base`, with a number behind it where a value has that name, and add it to `names`."""
    name, serial = base, names.serials.get(base, 1)
    while name in names:
        name, serial = f"{base}.{serial}", serial + 1
    names.serials[base] = serial
    names.add(name)
    return name
