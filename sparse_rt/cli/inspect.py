"""``sparse-rt inspect``: what is in a model, and what would run sparse."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparse_rt.cli.options import Json, Model

if TYPE_CHECKING:
    from sparse_rt.session import InferenceSession, LayerReport, Trial

__all__ = ["inspect"]


def inspect(model: Model, json: Json = None) -> None:
    """Show each layer's shape, pattern, density, bytes, its sparse kernel or why it has none, and what was measured.

    [bold]Examples[/bold]

      sparse-rt inspect model.onnx

      sparse-rt inspect model.onnx --json layers.json
    """
    from sparse_rt.cli.console import output_console
    from sparse_rt.cli.json_file import STDOUT, write_json
    from sparse_rt.session import InferenceSession

    session = InferenceSession(str(model))
    layers, plans, sizes = session.explain(), session.plan.tried, _open_sizes(session)
    if json != STDOUT:
        console = output_console(json)
        _print(layers, plans, console)
        if not session.is_settled:
            named = "; ".join(f"{name} {list(shape)}" for name, shape in sizes.items())
            console.print(f"open sizes: {named}. The first run of a session measures, and may choose other kernels.")
    if json is not None:
        write_json(json, _document(str(model), layers, plans) | {"settled": session.is_settled, "open_sizes": sizes})


def _open_sizes(session: "InferenceSession") -> dict[str, list[int | str | None]]:
    """Return the shapes of inputs that have a size which only a feed tells."""
    return {item.name: item.shape for item in session.get_inputs() if not all(isinstance(n, int) for n in item.shape)}


def _document(model: str, layers: Sequence["LayerReport"], plans: Sequence["Trial"]) -> dict[str, Any]:
    return {
        "model": model,
        "layers": [dataclasses.asdict(layer) for layer in layers],
        "plans": [dataclasses.asdict(plan) for plan in plans],
        "sparse_layers": sum(layer.is_sparse for layer in layers),
        "dense_bytes": sum(layer.dense_bytes for layer in layers),
        "compressed_bytes": sum(_bytes(layer) for layer in layers),
    }


def _bytes(layer: "LayerReport") -> int:
    """Return the layer's bytes in a compressed file."""
    return layer.dense_bytes if layer.compressed_bytes is None else layer.compressed_bytes


def _print(layers: Sequence["LayerReport"], plans: Sequence["Trial"], console: Any) -> None:
    from sparse_rt.cli.console import bytes_text, shape_text, table
    from sparse_rt.formats import FORMATS

    stored = "/".join(found.title for found in FORMATS.values())
    columns = ["layer", "operator", "weight", "dtype", "pattern", "density", "dense", stored, "kernel, or why not"]
    was_measured = any(layer.tried for layer in layers)
    rows = [
        (
            layer.name,
            layer.op_type,
            shape_text(layer.shape),
            layer.dtype,
            layer.pattern or "-",
            "-" if layer.density is None else f"{layer.density:.1%}",
            bytes_text(layer.dense_bytes),
            "-" if layer.compressed_bytes is None else bytes_text(layer.compressed_bytes),
            layer.kernel if layer.kernel is not None and layer.is_sparse else layer.reason,
            *(["\n".join(map(str, layer.tried)) or "-"] if was_measured else []),
        )
        for layer in layers
    ]
    columns += ["tried"] if was_measured else []
    console.print(table("", columns, rows, right=("density", "dense", stored)))
    dense = sum(layer.dense_bytes for layer in layers)
    compressed = sum(_bytes(layer) for layer in layers)
    share = f" ({compressed / dense:.1%})" if dense else ""
    sparse = sum(layer.is_sparse for layer in layers)
    console.print(
        f"{sparse} of {len(layers)} layers run sparse; weights {bytes_text(dense)} dense,"
        f" {bytes_text(compressed)} compressed{share}"
    )
    if plans:
        console.print(f"whole model measured: {', '.join(map(str, plans))}")
