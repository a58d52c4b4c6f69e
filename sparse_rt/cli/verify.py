"""``sparse-rt verify``: prove that a model computes what its reference does."""

from typing import TYPE_CHECKING, Any

import typer

from sparse_rt.cli.options import Batch, Inputs, Json, Model, Reference, Seed, Threads

if TYPE_CHECKING:
    from sparse_rt.verify import LayerCheck, OutputCheck, VerifyReport
    from sparse_rt.verify.compare import Comparison

__all__ = ["print_verdict", "verify"]

_NUMBERS = ("differing", "max error", "of allowed")
#: Steps that are shown; one wrong value may spoil all that follow.
_MOST_STEPS = 20


def verify(
    model: Model,
    reference: Reference = None,
    inputs: Inputs = None,
    json: Json = None,
    batch: Batch = None,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Compare with stock onnxruntime, layer by layer, step by step inside the running plan, and at the outputs.

    What is judged is the plan that [bold]run[/bold] takes on this machine, and every sparse kernel that it leaves out.

    Exit code 0: equal. 1: not equal, the first layer that differs is named. 2: cannot say.

    [bold]Examples[/bold]

      sparse-rt verify compressed.onnx

      sparse-rt verify compressed.onnx --reference pruned.onnx --inputs in.npz --json report.json
    """
    from sparse_rt.cli.console import output_console
    from sparse_rt.cli.json_file import STDOUT, write_json
    from sparse_rt.feeds import read_npz
    from sparse_rt.verify import verify as compare

    feeds = read_npz(inputs) if inputs else None
    report = compare(
        str(model), str(reference) if reference else None, feeds, batch=batch, seed=seed, threads=threads or 0
    )
    if json != STDOUT:
        console = output_console(json)
        _print(report, console)
        print_verdict(report, console)
    if json is not None:
        write_json(json, _document(report))
    raise typer.Exit(report.exit_code)


def _document(report: "VerifyReport") -> dict[str, Any]:
    import dataclasses

    document = dataclasses.asdict(report)
    for name, statuses in (
        ("layers", [check.status for check in report.layers]),
        ("operators", [check.status for check in report.operators]),
        ("steps", [check.status for check in report.steps]),
        ("outputs", [check.status for check in report.outputs]),
        ("sparse_outputs", [check.status for check in report.sparse_outputs]),
    ):
        for item, status in zip(document[name], statuses, strict=True):
            item["status"] = status
    document["status"] = report.status
    document["exit_code"] = report.exit_code
    document["first_difference"] = report.first_difference
    document["reason"] = report.reason
    return document


def _print(report: "VerifyReport", console: Any) -> None:
    from sparse_rt.cli.console import table

    numbers = _NUMBERS
    if report.layers:
        columns = ("layer", "operator", "kernel", "weight", "rule", *numbers, "result")
        rows = [_layer_row(check) for check in report.layers]
        console.print(table("Layers, each fed with the reference's input", columns, rows, numbers))
        console.print()
    _print_steps(report, console)
    names = ("output", "rule", *numbers, "cosine", "top-1", "result")
    for title, outputs in (
        ("Outputs, end to end", report.outputs),
        ("Outputs of the plan of sparse kernels, which is slower here", report.sparse_outputs),
    ):
        if outputs or title.endswith("end"):
            rows = [_output_row(check) for check in outputs]
            console.print(table(title, names, rows, (*numbers, "cosine", "top-1")))
            console.print()


def _print_steps(report: "VerifyReport", console: Any) -> None:
    """Print the operators, and the values inside the running plan, that differ, and how many there are."""
    from sparse_rt.cli.console import table

    differing = [check for check in report.operators if check.status == "different"]
    if differing:
        columns = ("operator", "node", "value", *_NUMBERS)
        rows = [[check.op_type, check.name, check.value, *_of(check.comparison)] for check in differing]
        console.print(table("Operators between layers, each fed with the reference's input", columns, rows, _NUMBERS))
    if report.operators:
        same = sum(check.status == "equal" for check in report.operators)
        console.print(f"{same} of {len(report.operators)} operators between layers do what the reference does")
        console.print()
    wrong = [check for check in report.steps if check.status == "different"]
    if wrong:
        columns = ("step", "as it runs", "value", *_NUMBERS)
        rows = [[check.name, check.step, check.value, *_of(check.comparison)] for check in wrong[:_MOST_STEPS]]
        console.print(
            table("Steps that compute something else in the running plan than alone", columns, rows, _NUMBERS)
        )
    if report.steps:
        same = len(report.steps) - len(wrong)
        console.print(
            f"{same} of {len(report.steps)} values inside the running plan are what their steps compute alone"
        )
        console.print()


def print_verdict(report: "VerifyReport", console: Any) -> None:
    """Print the last line: equal or not, and where."""
    from rich.text import Text

    style = {"equal": "bold green", "different": "bold red", "unknown": "bold yellow"}[report.status]
    console.print(Text(report.reason, style=style))


def _layer_row(check: "LayerCheck") -> list[Any]:
    return [
        check.name,
        check.op_type,
        check.kernel if check.in_use else f"{check.kernel} (not in use)",
        check.weight,
        check.rule,
        *_numbers(check),
        _result(check),
    ]


def _output_row(check: "OutputCheck") -> list[Any]:
    rule = "exact" if check.rule == "exact" else f"{check.tolerance:.2g} of {check.rule}"
    cosine = "-" if check.cosine is None else f"{check.cosine:.9f}"
    top1 = "-" if check.top1_agreement is None else f"{check.top1_agreement:.1%}"
    return [check.name, rule, *_numbers(check), cosine, top1, _result(check)]


def _numbers(check: "LayerCheck | OutputCheck") -> tuple[str, str, str]:
    differing, error, worst = _of(check.comparison)
    return differing, error, "-" if check.rule == "exact" else worst


def _of(comparison: "Comparison | None") -> tuple[str, str, str]:
    if comparison is None:
        return "-", "-", "-"
    differing = f"{comparison.differing} of {comparison.elements}"
    return differing, f"{comparison.max_error:.3g}", f"{comparison.worst:.2g}"


def _result(check: "LayerCheck | OutputCheck") -> Any:
    from rich.text import Text

    word, style = {
        "equal": ("ok", "green"),
        "different": ("DIFFERS", "bold red"),
        "unknown": ("not compared", "yellow"),
    }[check.status]
    return Text(f"{word}: {check.note}" if check.note else word, style=style)
