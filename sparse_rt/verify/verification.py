"""``verify``: a sparse model against its reference."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.feeds import random_feeds
from sparse_rt.graph import model_io
from sparse_rt.graph.layers import find_layers
from sparse_rt.session import InferenceSession, SessionOptions
from sparse_rt.stock import ModelSource
from sparse_rt.verify.bounds import end_to_end_tolerance, quantised_tolerance, reduction_length
from sparse_rt.verify.compare import exact, rms_within, within
from sparse_rt.verify.layer_checks import check_layers
from sparse_rt.verify.reference import Reference
from sparse_rt.verify.report import OutputCheck, VerifyReport

__all__ = ["verify"]

_LOGIT_NAMES = ("logit", "prob", "score", "class")
_QUANTISING = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"})


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
    largest value, or as a whole where activations are quantised.

    Parameters
    ----------
    model
        Path, bytes or ModelProto; compressed or not.
    reference
        The dense model, with the same names for nodes and values; weights are then compared as well. By default
        `model` itself, which stock onnxruntime runs too.
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
    session = InferenceSession(model, SessionOptions(intra_op_num_threads=threads))
    given = random_feeds(session.get_inputs(), batch, seed) if feeds is None else dict(feeds)
    dense_source = model if reference is None else reference
    dense = Reference(dense_source, given, _name(dense_source, "reference"))
    expected = dense.outputs()
    found = dict(zip([item.name for item in session.get_outputs()], session.run(None, given), strict=True))
    layers = check_layers(session, parsed, dense, None if reference is None else model_io.read(reference), given)
    quantised = any(node.op_type in _QUANTISING for graph in parsed.graphs() for node in graph)
    tolerance = _tolerance(parsed, session, quantised=quantised)
    finite = all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in given.values())
    outputs = tuple(
        _check_output(name, found[name], expected[name], tolerance, quantised=quantised, finite_feeds=finite)
        for name in found
        if name in expected
    )
    return VerifyReport(_name(model, "model"), _name(dense_source, "reference"), layers, outputs)


def _name(model: ModelSource, otherwise: str) -> str:
    return otherwise if isinstance(model, bytes | onnx.ModelProto) else os.fspath(model)


def _tolerance(model: ir.Model, session: InferenceSession, *, quantised: bool) -> float:
    sparse = {report.name for report in session.explain() if report.is_sparse}
    if quantised:
        return quantised_tolerance(len(sparse))
    return end_to_end_tolerance([reduction_length(layer) for layer in find_layers(model) if layer.name in sparse])


def _check_output(
    name: str, y: Any, reference: Any, tolerance: float, *, quantised: bool, finite_feeds: bool
) -> OutputCheck:
    if not isinstance(y, np.ndarray) or not isinstance(reference, np.ndarray):
        return OutputCheck(name, "exact", 0.0, None, note=f"output '{name}' is no tensor")
    if y.dtype.kind != "f":
        return OutputCheck(name, "exact", 0.0, exact(y, reference))
    rule: Literal["rms", "max"] = "rms" if quantised else "max"
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
