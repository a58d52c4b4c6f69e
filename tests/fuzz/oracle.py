"""Judge a model: ours in every way it can run, against stock onnxruntime."""

import os
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

import sparse_rt as srt
from sparse_rt.errors import SparseRTError
from tests.fuzz.graphs import Case

__all__ = ["Finding", "judge"]

_PROVIDERS = ["CPUExecutionProvider"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with one way of running a case."""

    seed: int
    way: str
    what: str

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.way}: {self.what}"


def stock(model, optimise=True):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=_PROVIDERS)


def judge(case: Case) -> list[Finding]:
    """Return what is wrong; nothing for a model that stock onnxruntime refuses as ours does."""
    try:
        sessions = [stock(case.model, optimise) for optimise in (True, False)]
        wanted = [[session.run(None, feeds) for feeds in case.feeds] for session in sessions]
    except Exception:
        return _expect_refusal(case)
    findings = []
    for way, open_session in _ways(case):
        try:
            session = open_session()
            found = [session.run(None, feeds) for feeds in case.feeds]
        except Exception as error:
            findings.append(Finding(case.seed, way, f"{type(error).__name__}: {error}"))
            continue
        for number, outputs in enumerate(found):
            for index, output in enumerate(outputs):
                what = _difference(case, output, *(runs[number][index] for runs in wanted))
                if what:
                    findings.append(Finding(case.seed, way, f"run {number}, output {index}: {what}"))
    return findings


def _expect_refusal(case):
    try:
        session = srt.InferenceSession(case.model, srt.SessionOptions(tuning="off"))
        for feeds in case.feeds:
            session.run(None, feeds)
    except SparseRTError:
        return []
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            return []
        return [Finding(case.seed, "refusal", f"{type(error).__name__}: {error}")]
    return []  # a limit of onnxruntime's, such as padding by auto_pad with dilation


def _ways(case):
    """Yield names and constructors of sessions."""
    rng = np.random.default_rng(case.seed)
    threads = int(rng.integers(1, 3))

    def ours(model, **options):
        return lambda: srt.InferenceSession(model, srt.SessionOptions(intra_op_num_threads=threads, **options))

    compressed = srt.compress(case.model)
    yield f"sparse, {threads} threads", ours(case.model, tuning="sparse")
    yield "hosted", ours(case.model, tuning="hosted")
    yield "estimated", ours(case.model, tuning="off")
    yield "compressed, sparse", ours(compressed, tuning="sparse")
    yield "compressed, stock onnxruntime", lambda: stock(compressed)
    if rng.random() < 0.25 and os.environ.get("SPARSE_RT_TIER") is None:
        tier = str(rng.choice(["avx512", "avx2", "generic"]))
        yield f"tier {tier}", ours(case.model, tuning="sparse", kernel_tier=tier)


def _difference(case, found, optimised, plain):
    """Return how an output differs from both executions of the reference; None where it does not."""
    if found.dtype != optimised.dtype or found.shape != optimised.shape:
        return f"{found.dtype} {found.shape} for {optimised.dtype} {optimised.shape}"
    if found.size == 0 or np.array_equal(found, optimised, equal_nan=found.dtype.kind == "f"):
        return None
    if found.dtype.kind != "f":
        return _byte_difference(case.exact, found, optimised, plain)
    a, b, c = (array.astype(np.float64) for array in (found, optimised, plain))
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return "NaN at other places"
    scale = np.sqrt(np.nanmean(b**2)) or 1.0
    noise = np.sqrt(np.nanmean((b - c) ** 2)) / scale
    error = np.sqrt(np.nanmean((a - b) ** 2)) / scale
    # A last bit of a float flips the rounding of a byte now and then, which is a step of 255.
    rounds = not case.exact and "QuantizeLinear" in case.operators
    allowed = max(2**-8 if rounds else 1e-5, 4 * noise)
    return None if error <= allowed else f"rms {error:.3g} of the reference, {allowed:.3g} allowed"


def _byte_difference(exact, found, optimised, plain):
    a, b, c = (array.astype(np.int64) for array in (found, optimised, plain))
    if exact:
        if np.array_equal(b, c):
            return f"{np.mean(a != b):.2%} of bytes differ, by up to {np.abs(a - b).max()}, where arithmetic is exact"
        return None if np.array_equal(a, c) else _against_both(a, b, c)
    return _against_both(a, b, c)


def _against_both(a, b, c):
    """Allow as many and as large differences as the reference's own two executions have, and lone single steps."""
    share, own = np.mean(a != b), np.mean(b != c)
    largest, own_largest = np.abs(a - b).max(), np.abs(b - c).max()
    if largest <= max(1, 2 * own_largest) and share <= max(0.02, 4 * own):
        return None
    return f"{share:.2%} of bytes differ, by up to {largest}; the reference's own: {own:.2%}, {own_largest}"
