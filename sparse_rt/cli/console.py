"""Where the commands print, and how a table looks there."""

import os
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["bytes_text", "error_console", "output_console", "shape_text", "table"]

_WIDE = 10_000


class _Console(Console):
    """A console that leaves the exit code of a broken pipe to the command line; rich ends the process with 1."""

    def on_broken_pipe(self) -> None:
        """Let the error through."""
        raise BrokenPipeError


def output_console(*written: str | os.PathLike[str] | None) -> Console:
    """Return a console for what a command tells; wide where that is no terminal, so that nothing is cut or wrapped.

    It is on standard output, or on standard error where one of the files that the command writes is standard output,
    as with ``-o /dev/stdout``.
    """
    return _console(stderr=any(map(_is_standard_output, written)))


def _is_standard_output(path: str | os.PathLike[str] | None) -> bool:
    if path is None:
        return False
    try:
        ours, theirs = os.fstat(sys.stdout.fileno()), os.stat(path)
    except (OSError, ValueError):  # closed, or replaced by something without a descriptor
        return False
    return os.path.samestat(ours, theirs) and not os.path.samestat(theirs, os.stat(os.devnull))


def error_console() -> Console:
    """Return a console on standard error."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    # Made anew for each use: tests and callers replace sys.stdout.
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return _Console(stderr=stderr, width=None if is_terminal else _WIDE, highlight=False, soft_wrap=not is_terminal)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str | Text]], right: Iterable[str] = ()) -> Table:
    """Return a table; the columns named in `right` hold numbers. Long cells fold, they are never cut."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    numbers = set(right)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold", header_style="dim")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def shape_text(shape: Sequence[int]) -> str:
    """Return ``64x3x7x7``, or a dash for no shape."""
    return "x".join(str(size) for size in shape) or "-"


def bytes_text(count: int) -> str:
    """Return a size for people: bytes below 10 KiB, then KiB and MiB with one decimal."""
    if count < 10 * 2**10:
        return f"{count} B"
    if count < 10 * 2**20:
        return f"{count / 2**10:.1f} KiB"
    return f"{count / 2**20:.1f} MiB"
