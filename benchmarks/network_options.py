"""The options of commands that measure whole models, and the models that they choose."""

import argparse
from pathlib import Path

from benchmarks.models.networks import DTYPES, NETWORKS, cache_folder

__all__ = ["chosen", "parser"]


def parser(description: str | None, seconds: float) -> argparse.ArgumentParser:
    """Return the options of a command; `seconds` is how long it measures for a row of its table, unless told."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", default="", help=f"only models whose name holds this: {', '.join(NETWORKS)}")
    made.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    made.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    made.add_argument("--seconds", type=float, default=seconds, help="measured time a row of the table")
    made.add_argument(
        "--models",
        type=Path,
        default=cache_folder(),
        metavar="FOLDER",
        help="of NAME_DTYPE.onnx, dense, and NAME_DTYPE_compressed.onnx; built there if missing, 1.3 GB, and never "
        "replaced (default: %(default)s)",
    )
    made.add_argument("--no-record", action="store_true", help="do not append to benchmarks/results")
    return made


def chosen(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[str]:
    """Return the names of the models that the options ask for; ends the process if there is none."""
    names = [name for name in NETWORKS if options.only in name]
    if not names:
        parser.error(f"--only: expected a part of {', '.join(NETWORKS)}, got '{options.only}'")
    return names
