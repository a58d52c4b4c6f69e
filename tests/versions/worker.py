"""Run pairs of models in the onnxruntime that is on the path, and print what happened as JSON.

    python worker.py VERSION FOLDER [library]

FOLDER has `dense.onnx`, `other.onnx` and `feeds.npz` of each case in a folder of its own. With `library` the other
model has our kernels registered; nothing of ours is imported otherwise. It may then give what the dense one gives
without optimisations: newer versions optimise a MatMul behind DequantizeLinear to one that rounds activations.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def _session(path, saved=None, library=None):
    options = ort.SessionOptions()
    if library is not None:
        options.register_custom_ops_library(library)
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if saved is None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        options.optimized_model_filepath = str(saved)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session, feeds):
    known = {item.name for item in session.get_inputs()}
    return session.run(None, {name: array for name, array in feeds.items() if name in known})


def _judge(folder, library):
    """Return ``dense`` (why the dense model does not run), ``error`` or ``difference``; save both models optimised."""
    with np.load(folder / "feeds.npz") as stored:
        feeds = dict(stored)
    try:
        expected = _run(_session(folder / "dense.onnx", folder / "dense_saved.onnx"), feeds)
    except Exception as error:  # whatever this version cannot do
        return {"dense": str(error)[:200]}
    try:
        session = _session(folder / "other.onnx", folder / "other_saved.onnx", library)
        found = _run(session, feeds)
    except Exception as error:  # reported, and judged by the lane
        return {"error": str(error)[:300]}
    difference = max(map(_difference, found, expected), default=0.0)
    if library is not None and difference > 0:
        as_written = _run(_session(folder / "dense.onnx"), feeds)
        difference = min(difference, max(map(_difference, found, as_written), default=0.0))
    return {"difference": difference}


def _difference(y, reference):
    """Largest difference relative to the largest value; infinite where types or shapes differ."""
    if y.dtype != reference.dtype or y.shape != reference.shape:
        return float("inf")
    y, reference = y.astype(np.float64), reference.astype(np.float64)
    return float(np.abs(y - reference).max(initial=0.0) / max(1e-30, np.abs(reference).max(initial=0.0)))


def _own_library():
    import sparse_rt

    return sparse_rt.get_library_path()


def main(version, folder, kernels=""):
    """Judge every case."""
    if ort.__version__ != version:
        raise SystemExit(f"onnxruntime {version} expected, {ort.__version__} found")
    library = _own_library() if kernels else None
    print(json.dumps({case.name: _judge(case, library) for case in sorted(Path(folder).iterdir())}))


if __name__ == "__main__":
    main(*sys.argv[1:])
