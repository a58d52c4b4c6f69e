"""``verify``: a sparse model against its reference."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt import arguments, stock
from sparse_rt.boundary import public
from sparse_rt.errors import ModelError, SparseRTError, message
from sparse_rt.feeds import random_feeds
from sparse_rt.graph import model_io, model_writer
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.passes.decompress import decompress_model, decompressed_nbytes
from sparse_rt.plan.prepare.prepare import prepare
from sparse_rt.plan.signature import is_exchangeable
from sparse_rt.scratch import ScratchFolder
from sparse_rt.session import InferenceSession, SessionOptions
from sparse_rt.stock import ModelSource, name_of
from sparse_rt.verify.bounds import end_to_end_tolerance, reduction_length
from sparse_rt.verify.compare import LOST_NAN
from sparse_rt.verify.exactness import exact_outputs
from sparse_rt.verify.layer_checks import check_layers
from sparse_rt.verify.operator_checks import check_operators
from sparse_rt.verify.outputs import Rules, check_outputs
from sparse_rt.verify.reference import Reference
from sparse_rt.verify.report import LayerCheck, OperatorCheck, StepCheck, VerifyReport
from sparse_rt.verify.running_checks import check_running
from sparse_rt.verify.subject import Subject

__all__ = ["DECOMPRESS_LIMIT", "verify"]

DECOMPRESS_LIMIT = 2**30
"""Dense bytes of compressed weights from which on the default reference is decompressed beforehand."""

_QUANTISING = frozenset(
    ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "DynamicQuantizeMatMul")
)


@public
def verify(
    model: ModelSource,
    reference: ModelSource | None = None,
    feeds: Mapping[str, NDArray[Any]] | None = None,
    *,
    batch: int | None = None,
    seed: int = 0,
    threads: int = 0,
) -> VerifyReport:
    """Compare a model in sparse_rt with a reference in stock onnxruntime.

    The session is a user's own: decisions, layouts, threads and native calls are those of ``run``. Where it leaves a
    sparse kernel out, because something else was faster here, the plan of sparse kernels is checked beside it.

    Layer by layer: each sparse layer gets the input that it has in the reference, and its output is compared with the
    reference's, integers bit for bit, floats by |y - y_ref| <= c (k + 1) eps (|X| |W|^T + |b|) elementwise (see
    :mod:`sparse_rt.verify.bounds`).

    Value by value within the plan as it runs: each must have the very bits that its step computes alone.

    End to end at the outputs: integers, and floats that integers alone lead to, bit for bit; other floats relative to
    their largest value, or as a whole where activations are quantised: then the noise is measured that the reference
    has between two executions of its own. What lies beyond the rule, but within that noise, cannot be told.

    Parameters
    ----------
    model
        Path, bytes or ModelProto; compressed or not.
    reference
        The dense model, with the same names for nodes and values; weights are then compared as well. By default
        `model` itself, which stock onnxruntime runs too. While it decodes the weights it takes many times their size;
        so where they are larger than :data:`DECOMPRESS_LIMIT`, or this onnxruntime would misread the file, the default
        reference is the dense model that :func:`sparse_rt.graph.passes.decompress.decompress_model` makes, in a
        temporary folder.
    feeds
        An array for each input; random ones by default, see :func:`sparse_rt.feeds.random_feeds`.
    batch, seed
        Of random feeds.
    threads
        Of the sparse session; 0 takes every CPU.

    Raises
    ------
    ModelError
        One of the models does not load.
    FeedError
        The feeds do not fit, or cannot be guessed.
    FormatError
        A compressed weight is corrupt.
    """
    arguments.model("model", model)
    if reference is not None:
        arguments.model("reference", reference)
    threads = arguments.integer("threads", threads, 0)
    wanted = None if feeds is None else arguments.feeds("feeds", feeds)
    parsed = model_io.read(model)
    # As a user's own: what was measured for `run` decides here, too, and what is measured here is kept for it.
    session = InferenceSession(model, SessionOptions(intra_op_num_threads=threads))
    # Both engines get the same arrays, whatever strides, byte order or lists were given.
    given = session.plan.signature.checked(
        random_feeds(session.get_inputs(), batch, seed) if wanted is None else wanted
    )
    return _compared(session, parsed, model, reference, given)


def _compared(
    session: InferenceSession,
    parsed: ir.Model,
    model: ModelSource,
    reference: ModelSource | None,
    given: Mapping[str, Any],
) -> VerifyReport:
    """Compare a session of `model`, parsed as well, with the reference, on the same feeds."""
    found = _outputs(session, given)
    with ExitStack() as stack:
        dense, name = _reference(model, reference, parsed, given, stack)
        subject = _subject(parsed, None if reference is None else model_io.read(reference), dense, given)
        expected = dense.outputs()
        layers, operators, steps = _inside(session, subject)
        in_onnxruntime = not session.plan.kernel_steps
        others: dict[str, Any] = {}
        if _leaves_kernels_out(session):
            # Every kernel that may run shall be verified, whether it is worth its while here or not.
            session = InferenceSession(
                model, SessionOptions(session.get_session_options().intra_op_num_threads, tuning="sparse")
            )
            others = _outputs(session, given)
            more_layers, more_operators, more_steps = _inside(session, subject)
            layers, steps = _together(layers, more_layers), steps + more_steps
            operators = tuple(dict.fromkeys((*operators, *more_operators)))
        rules = _rules(session, subject, layers, expected)
        outputs, sparse_outputs = (check_outputs(each, expected, rules) for each in (found, others))
    names = name_of(model, "model"), name
    return VerifyReport(*names, layers, outputs, steps, sparse_outputs, operators, in_onnxruntime)


def _subject(
    parsed: ir.Model, parsed_reference: ir.Model | None, dense: Reference, feeds: Mapping[str, Any]
) -> Subject:
    """Return what is verified, of a model and, where that is another one, of its reference."""
    is_quantised = any(node.op_type in _QUANTISING for graph in parsed.graphs() for node in graph)
    reference = None if parsed_reference is None else prepare(parsed_reference)
    return Subject(prepare(parsed), dense, reference, feeds, is_quantised)


def _inside(
    session: InferenceSession, subject: Subject
) -> tuple[tuple[LayerCheck, ...], tuple[OperatorCheck, ...], tuple[StepCheck, ...]]:
    """Return the checks of a session's layers, of the operators between them, and of its plan as it runs."""
    return check_layers(session, subject), check_operators(session, subject), check_running(session, subject.feeds)


def _rules(
    session: InferenceSession, subject: Subject, layers: Sequence[LayerCheck], expected: Mapping[str, Any]
) -> Rules:
    """Return the rules for outputs; `session` is that of sparse kernels."""
    arrays = [array for array in subject.feeds.values() if isinstance(array, np.ndarray)]
    finite = all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in arrays)
    return Rules(
        _float_tolerance(subject.model, session),
        is_quantised=subject.is_quantised,
        exact=exact_outputs(subject.model),
        may_lose_nan=not finite or any(LOST_NAN in check.note for check in layers),
        plain=functools.cache(lambda: _outputs_or(expected, subject.reference, optimise=False)),
        again=functools.cache(lambda: _outputs_or(expected, subject.reference, runs=2)),
        nudged=functools.cache(lambda: _outputs_or(expected, subject.reference, nudged=True)),
    )


def _reference(
    model: ModelSource, reference: ModelSource | None, parsed: ir.Model, feeds: Mapping[str, Any], stack: ExitStack
) -> tuple[Reference, str]:
    """Return the reference and its name; a large one that is decompressed first lasts as long as `stack`."""
    source, name = model if reference is None else reference, ""
    if reference is None and (decompressed_nbytes(parsed) > DECOMPRESS_LIMIT or stock.misreads(model)):
        source = _decompressed(parsed, stack)
        name = f"{name_of(model, 'model')}, decompressed"
    name = name or name_of(source, "reference")
    return Reference(source, feeds, name), name


def _outputs(session: InferenceSession, feeds: Mapping[str, Any]) -> dict[str, Any]:
    outputs = session.get_outputs()
    try:
        return dict(zip([item.name for item in outputs], session.run(None, feeds), strict=True))
    except SparseRTError as error:
        for item in outputs:
            if not is_exchangeable(item.type):
                expected, remedy = "a type of which onnxruntime makes arrays", "Put a Cast to float behind it."
                raise ModelError(message(f"output '{item.name}'", expected, item.type, remedy)) from error
        raise


def _leaves_kernels_out(session: InferenceSession) -> bool:
    """Return whether some layer that a sparse kernel fits runs otherwise."""
    return any(report.pattern is not None and not report.is_sparse for report in session.explain())


def _together(running: Sequence[LayerCheck], sparse: Sequence[LayerCheck]) -> tuple[LayerCheck, ...]:
    """Return the checks of every sparse kernel, in order, and those of what runs instead, each marked by its use."""
    used = {(check.name, check.kernel) for check in running}
    found = [dataclasses.replace(check, in_use=(check.name, check.kernel) in used) for check in sparse]
    known = {(check.name, check.kernel) for check in sparse}
    return (*(check for check in running if (check.name, check.kernel) not in known), *found)


def _outputs_or(expected: Mapping[str, Any], reference: Reference, **how: Any) -> Mapping[str, Any]:
    """Return the outputs of another execution of the reference, those of the first where onnxruntime has no other."""
    try:
        return reference.outputs(**how)
    except SparseRTError:
        return expected


def _decompressed(model: ir.Model, stack: ExitStack) -> Path:
    """Write the dense model to a temporary file that lasts as long as `stack`."""
    path = stack.enter_context(ScratchFolder("verify")) / "dense.onnx"
    model_writer.write(decompress_model(model), path, external_data=True)
    return path


def _float_tolerance(model: ir.Model, session: InferenceSession) -> float:
    sparse = {report.name for report in session.explain() if report.is_sparse}
    return end_to_end_tolerance([reduction_length(layer) for layer in find_layers(model) if layer.name in sparse])
