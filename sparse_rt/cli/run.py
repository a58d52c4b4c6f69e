"""``sparse-rt run``: one inference."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparse_rt.cli.options import Batch, Inputs, Model, Seed, Threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["run"]


def run(
    model: Model,
    inputs: Inputs = None,
    outputs: Annotated[
        str | None, typer.Option("--outputs", metavar="OUT.npz", help="Write the outputs to this file.")
    ] = None,
    batch: Batch = None,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Run the model once and show what comes out.

    [bold]Examples[/bold]

      sparse-rt run model.onnx

      sparse-rt run model.onnx --inputs in.npz --outputs out.npz
    """
    from sparse_rt.cli.console import output_console, table
    from sparse_rt.feeds import random_feeds, read_npz, write_npz
    from sparse_rt.session import InferenceSession, SessionOptions

    session = InferenceSession(str(model), SessionOptions(intra_op_num_threads=threads or 0))
    feeds = read_npz(inputs) if inputs else random_feeds(session.get_inputs(), batch, seed)
    names = [output.name for output in session.get_outputs()]
    results = dict(zip(names, session.run(None, feeds), strict=True))
    if outputs is not None:
        write_npz(outputs, results)
    console = output_console(outputs)
    columns = ("", "name", "dtype", "shape", "min", "mean", "max", "")
    rows = [*_rows("input", feeds), *_rows("output", results)]
    console.print(table("", columns, rows, right=("min", "mean", "max")))
    if outputs is not None:
        console.print(f"outputs written to {outputs}")


def _rows(kind: str, arrays: Mapping[str, "NDArray[Any]"]) -> list[tuple[str, ...]]:
    return [(kind, name, str(array.dtype), str(list(array.shape)), *_summary(array)) for name, array in arrays.items()]


def _summary(array: "NDArray[Any]") -> tuple[str, str, str, str]:
    """Return minimum, mean and maximum of the finite values, and a word on the others."""
    import numpy as np

    if array.size == 0 or array.dtype.kind not in "fiub":
        return "-", "-", "-", "empty" if array.size == 0 else ""
    finite = np.isfinite(array)
    values = array[finite].astype(np.float64)
    odd = array.size - values.size
    note = f"{odd} of {array.size} not finite" if odd else ""
    if values.size == 0:
        return "-", "-", "-", note
    return f"{values.min():.6g}", f"{values.mean():.6g}", f"{values.max():.6g}", note
