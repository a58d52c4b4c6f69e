"""The command ``sparse-rt``: one module a command."""

import contextlib
import errno
import functools
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperGroup

from sparse_rt.cli import bench, compress, demo, inspect, library, prune, quantize, run, verify

__all__ = ["app"]

P = ParamSpec("P")

#: Bad usage, bad input, or an answer that cannot be given. 1 is reserved for verify's "not equal".
ERROR = 2
#: What shells report of a command that Ctrl-C has ended.
INTERRUPTED = 130

_TRACEBACK = "SPARSE_RT_TRACEBACK"


class _Group(TyperGroup):
    """The commands; whatever goes wrong in one ends as one line on standard error and exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        _open_closed_streams()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # the texts of --help and --version go out before a command begins
            _print_error(error)
            sys.exit(ERROR)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Whoever read the output has enough; nobody hears of an answer now, so it must not look like one.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ERROR) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:
            if _is_typers_own(error):
                raise
            if os.environ.get(_TRACEBACK) and not _is_said(error):
                raise
            _print_error(error)
            raise typer.Exit(ERROR) from error


def _open_closed_streams() -> None:
    """Put the null device where the caller has closed a standard stream, so that no other file gets its number.

    What such a command has to say it says by its exit code and its files.
    """
    for name, number, mode in (("stdin", 0, os.O_RDONLY), ("stdout", 1, os.O_WRONLY), ("stderr", 2, os.O_WRONLY)):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, mode)
            try:
                os.fstat(number)
            except OSError:
                os.dup2(opened, number)
            setattr(sys, name, os.fdopen(opened, "r" if mode == os.O_RDONLY else "w", encoding="utf-8"))


def _is_typers_own(error: Exception) -> bool:
    """Return whether typer handles the error: an exit, or a wrong option (these carry their exit code)."""
    return isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "exit_code")


def _is_said(error: Exception) -> bool:
    """Return whether an error is no mistake of ours, so that where it was raised helps nobody."""
    from sparse_rt.errors import InternalError, SparseRTError

    return isinstance(error, SparseRTError) and not isinstance(error, InternalError)


def _print_error(error: Exception) -> None:
    from rich.text import Text

    from sparse_rt.cli.console import error_console

    with contextlib.suppress(OSError):  # nobody listens
        error_console().print(Text(f"error: {_describe(error)}", style="red"))


def _describe(error: BaseException) -> str:
    from sparse_rt.errors import InternalError, SparseRTError

    if isinstance(error, InternalError) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SparseRTError):
        return text
    if type(error).__module__.startswith("onnxruntime"):
        return f"onnxruntime: {text}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"{error.filename or 'output'}: expected room for what is written, got a full disk."
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: expected a system that does what is asked of it, got {text}."
    if isinstance(error, MemoryError | RecursionError):
        return f"sparse-rt: expected enough memory, got {type(error).__name__}: {text}."
    return f"unexpected {type(error).__name__}: {text}. This is a bug in sparse_rt; {_TRACEBACK}=1 shows where."


def _after_imports(command: Callable[P, None]) -> Callable[P, None]:
    """Let a command begin with onnxruntime imported, in which Ctrl-C waits.

    An interrupt in the middle of that import crashes the process, or comes out as an ImportError.
    """

    @functools.wraps(command)
    def prepared(*args: P.args, **kwargs: P.kwargs) -> None:
        interrupts: list[int] = []
        is_main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGINT)
        if is_main and before is signal.default_int_handler:
            signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
        try:
            importlib.import_module("onnxruntime")
        finally:
            if is_main and before is signal.default_int_handler:
                signal.signal(signal.SIGINT, before)
        if interrupts:
            raise KeyboardInterrupt
        command(*args, **kwargs)

    return prepared


app = typer.Typer(
    name="sparse-rt",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("inspect")(_after_imports(inspect.inspect))
app.command("prune")(_after_imports(prune.prune))
app.command("quantize")(_after_imports(quantize.quantize))
app.command("compress")(_after_imports(compress.compress))
app.command("library")(_after_imports(library.library))
app.command("run")(_after_imports(run.run))
app.command("verify")(_after_imports(verify.verify))
app.command("bench")(_after_imports(bench.bench))
app.command("demo")(_after_imports(demo.demo))


def _print_version(wanted: bool) -> None:
    if wanted:
        from sparse_rt import __version__

        typer.echo(f"sparse-rt {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Store 2:4-sparse ONNX models compressed, run them on a CPU, and prove that the answer is the same.

    The whole way on a small real model: [bold]sparse-rt demo[/bold]
    """
