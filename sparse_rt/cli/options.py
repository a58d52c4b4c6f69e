"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = ["Batch", "Inputs", "Json", "Model", "Output", "Reference", "Seed", "Threads"]

Model: TypeAlias = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file, compressed or not.")]
# Outputs are text: a Path would drop a slash at the end, which names a folder.
Output: TypeAlias = Annotated[str, typer.Option("-o", "--output", metavar="OUT", help="The file to write.")]
Json: TypeAlias = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the report as JSON; [bold]-[/bold] prints it instead."),
]
Inputs: TypeAlias = Annotated[
    Path | None,
    typer.Option("--inputs", metavar="IN.npz", help="Arrays named like the model's inputs; random ones by default."),
]
Batch: TypeAlias = Annotated[
    int | None, typer.Option("--batch", min=1, help="Size of symbolic batch dimensions of random inputs; 1 by default.")
]
Seed: TypeAlias = Annotated[int, typer.Option("--seed", min=0, help="Of the random inputs.")]
Threads: TypeAlias = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of one operator; by default one for each usable CPU.")
]
Reference: TypeAlias = Annotated[
    Path | None,
    typer.Option("--reference", metavar="DENSE.onnx", help="The dense model; by default MODEL in stock onnxruntime."),
]
