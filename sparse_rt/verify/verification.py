"""``verify``: a sparse model against its reference."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt import stock
from sparse_rt.errors import SparseRTError
from sparse_rt.feeds import random_feeds
from sparse_rt.graph import model_io, model_writer
from sparse_rt.graph.decompress import decompress_model, decompressed_nbytes
from sparse_rt.graph.layers import find_layers
from sparse_rt.plan.prepare import prepare
from sparse_rt.scratch import ScratchFolder
from sparse_rt.session import InferenceSession, SessionOptions
from sparse_rt.stock import ModelSource
from sparse_rt.verify.bounds import end_to_end_tolerance, noise_tolerance, reduction_length
from sparse_rt.verify.compare import exact, rms_distance, rms_within, within
from sparse_rt.verify.layer_checks import check_layers
from sparse_rt.verify.reference import Reference
from sparse_rt.verify.report import OutputCheck, VerifyReport

__all__ = ["DECOMPRESS_LIMIT", "verify"]

DECOMPRESS_LIMIT = 2**30
"""Dense bytes of compressed weights from which on the default reference is decompressed beforehand."""

_LOGIT_NAMES = ("logit", "prob", "score", "class")
_QUANTISING = frozenset(
    ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "DynamicQuantizeMatMul")
)


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

    Layer by layer: each sparse layer gets the input that it has in the reference, and its output is compared with the
    reference's, integers bit for bit, floats by |y - y_ref| <= c (k + 1) eps (|X| |W|^T + |b|) elementwise (see
    :mod:`sparse_rt.verify.bounds`). Then end to end at the outputs: integers bit for bit, floats relative to their
    largest value, or as a whole where activations are quantised: then the noise is measured that the reference has
    between two executions of its own.

    Parameters
    ----------
    model
        Path, bytes or ModelProto; compressed or not.
    reference
        The dense model, with the same names for nodes and values; weights are then compared as well. By default
        `model` itself, which stock onnxruntime runs too. While it decodes the weights it takes many times their size;
        so where they are larger than :data:`DECOMPRESS_LIMIT`, or this onnxruntime would misread the file, the default
        reference is the dense model that :func:`sparse_rt.graph.decompress.decompress_model` makes, in a temporary
        folder.
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
    parsed = model_io.read(model)
    # Every kernel that may run shall be verified, whether it is worth its while here or not.
    session = InferenceSession(model, SessionOptions(intra_op_num_threads=threads, tuning="sparse"))
    given = random_feeds(session.get_inputs(), batch, seed) if feeds is None else dict(feeds)
    found = dict(zip([item.name for item in session.get_outputs()], session.run(None, given), strict=True))
    with ExitStack() as stack:
        dense_source, name = model if reference is None else reference, ""
        if reference is None and (decompressed_nbytes(parsed) > DECOMPRESS_LIMIT or stock.misreads(model)):
            dense_source = _decompressed(parsed, stack)
            name = f"{_name(model, 'model')}, decompressed"
        name = name or _name(dense_source, "reference")
        dense = Reference(dense_source, given, name)
        expected = dense.outputs()
        quantised = any(node.op_type in _QUANTISING for graph in parsed.graphs() for node in graph)
        plain = _plain_outputs(dense, expected) if quantised else {}
        prepared = prepare(parsed)
        dense_model = None if reference is None else prepare(model_io.read(reference))
        layers = check_layers(session, prepared, dense, dense_model, given)
    float_tolerance = _float_tolerance(prepared, session)
    finite = all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in given.values())
    outputs = tuple(
        _check_output(output, found[output], expected[output], plain.get(output), float_tolerance, finite_feeds=finite)
        for output in found
        if output in expected
    )
    return VerifyReport(_name(model, "model"), name, layers, outputs)


def _plain_outputs(reference: Reference, optimised: dict[str, Any]) -> dict[str, Any]:
    """Return the outputs without graph optimisations, or the optimised ones where onnxruntime cannot do without."""
    try:
        return reference.outputs(optimise=False)
    except SparseRTError:
        return optimised


def _decompressed(model: ir.Model, stack: ExitStack) -> Path:
    """Write the dense model to a temporary file that lasts as long as `stack`."""
    path = stack.enter_context(ScratchFolder("verify")) / "dense.onnx"
    model_writer.write(decompress_model(model), path, external_data=True)
    return path


def _name(model: ModelSource, otherwise: str) -> str:
    return otherwise if isinstance(model, bytes | onnx.ModelProto) else os.fspath(model)


def _float_tolerance(model: ir.Model, session: InferenceSession) -> float:
    sparse = {report.name for report in session.explain() if report.is_sparse}
    return end_to_end_tolerance([reduction_length(layer) for layer in find_layers(model) if layer.name in sparse])


def _check_output(
    name: str, y: Any, reference: Any, plain: Any, float_tolerance: float, *, finite_feeds: bool
) -> OutputCheck:
    """Compare one output; `plain` is the reference's without optimisations where activations are quantised."""
    if not isinstance(y, np.ndarray) or not isinstance(reference, np.ndarray):
        return OutputCheck(name, "exact", 0.0, None, note=f"output '{name}' is no tensor")
    if y.dtype.kind != "f":
        return OutputCheck(name, "exact", 0.0, exact(y, reference))
    quantised = isinstance(plain, np.ndarray)
    rule: Literal["rms", "max"] = "rms" if quantised else "max"
    tolerance = noise_tolerance(rms_distance(plain, reference)) if quantised else float_tolerance
    if reference.size and np.isnan(reference).all():
        return OutputCheck(name, rule, tolerance, None, note=f"output '{name}' is all NaN in the reference")
    compare = rms_within if quantised else within
    comparison = compare(y, reference, tolerance, may_lose_nan=not finite_feeds)
    cosine, top1 = _cosine(y, reference), _top1_agreement(name, y, reference)
    return OutputCheck(name, rule, tolerance, comparison, cosine, top1, comparison.note)


def _cosine(y: NDArray[Any], reference: NDArray[Any]) -> float | None:
    if y.shape != reference.shape or not (np.isfinite(y).all() and np.isfinite(reference).all()):
        return None
    a, b = y.ravel().astype(np.float64), reference.ravel().astype(np.float64)
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return min(1.0, float(a @ b) / norm) if norm else None


def _top1_agreement(name: str, y: NDArray[Any], reference: NDArray[Any]) -> float | None:
    """Return the share of equal arg max over the last axis, for a matrix or a name that says logits."""
    named = any(word in name.lower() for word in _LOGIT_NAMES)
    if y.shape != reference.shape or y.size == 0 or y.shape[-1:] < (2,) or not (named or y.ndim == 2):
        return None
    return float(np.mean(_top1(y) == _top1(reference)))


def _top1(logits: NDArray[Any]) -> Sequence[int]:
    top: Sequence[int] = logits.argmax(axis=-1)
    return top
