"""``python -m tests.backend.suite [N]``: ONNX's own tests, ours against stock onnxruntime; every Nth test only.

Two passes. First as they are: the same outputs to the bit, or both refuse, and what refuses is an error of ours or an
operator of onnxruntime's. Then every input but the first becomes a constant, as weights are, and the model is pruned
to 2:4: plain and compressed, in our session and in stock, it must give what stock gives for the pruned one.
"""

import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

import sparse_rt as srt
from tests.backend.backends import SparseBackend, StockBackend, answer, same

RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
)
# Stock answers differently each time.
DRAWS = RANDOM | {"Dropout"}
KINDS = ("node", "simple", "real", "pytorch-converted", "pytorch-operator")


def cases(step=1):
    """Yield kind, name, model and inputs of each test; the inputs of models are those that come with them."""
    for kind in KINDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the suite casts on purpose what overflows
            tests = load_model_tests(kind=kind)
        for test in sorted(tests, key=lambda test: test.name)[::step]:
            if test.model is not None:
                yield kind, test.name, test.model, list(test.data_sets[0][0])
                continue
            folder = Path(test.model_dir) if test.model_dir else None
            path = folder / "model.onnx" if folder else Path(onnx.__file__).parent.parent / test.url
            if not path.exists():  # would be downloaded
                continue
            model = onnx.load(path)
            yield kind, test.name, model, given(model, folder) if folder else drawn(model)


def given(model, folder):
    initialised = {tensor.name for tensor in model.graph.initializer}
    fed = [value for value in model.graph.input if value.name not in initialised]
    files = sorted((folder / "test_data_set_0").glob("input_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
    return [loaded(file.read_bytes(), value.type) for value, file in zip(fed, files, strict=False)]


def loaded(content, kind):
    """Return an input as the suite stores it."""
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))


def drawn(model):
    initialised = {tensor.name for tensor in model.graph.initializer}
    rng = np.random.default_rng(0)
    shapes = (
        [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name not in initialised
    )
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def operators(model):
    return {node.op_type for node in model.graph.node}


def draws(model):
    return bool(operators(model) & DRAWS)


def as_it_is(model, inputs):
    """Return why our session differs from stock's; an empty text if it does not."""
    expected, _ = answer(StockBackend, model, inputs)
    found, _ = answer(SparseBackend, model, inputs)
    return difference(found, expected, exact=True)


def difference(found, expected, *, exact):
    if isinstance(expected, Exception) or isinstance(found, Exception):
        if not isinstance(expected, Exception):
            return f"only stock runs it: {found!r}"
        if not isinstance(found, Exception):
            return f"only ours runs it: {expected!r}"
        kind = type(found)
        known = issubclass(kind, srt.SparseRTError) or kind is type(expected)
        return "" if known else f"a foreign error: {found!r}"
    return "" if same(found, expected, exact) else f"{found} where stock has {expected}"


def with_constants(model, inputs):
    """Return the model with every input but the first a constant; None where that is no model of tensors."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if not all(isinstance(array, np.ndarray) for array in inputs):
        return None
    names = {tensor.name for tensor in changed.graph.initializer}
    fed = [value for value in changed.graph.input if value.name not in names]
    for value, array in list(zip(fed, inputs, strict=False))[1:]:
        try:
            changed.graph.initializer.append(numpy_helper.from_array(array, value.name))
        except Exception:  # an array that is none of ONNX
            return None
    names |= {value.name for value in fed[1:]}
    kept = [value for value in changed.graph.input if value.name not in names]
    del changed.graph.input[:]
    changed.graph.input.extend(kept)
    return changed


def pruned(model, inputs):
    """Return how often ours differs, and how many layers run sparse, with constant weights that are 2:4."""
    constant = with_constants(model, inputs)
    if constant is None or isinstance(answer(StockBackend, constant, inputs[:1])[0], Exception):
        return "", 0
    made = srt.prune(constant)
    expected, _ = answer(StockBackend, made, inputs[:1])
    compressed = srt.compress(made)
    sparse = 0
    for what, backend, variant in (
        ("pruned, ours", SparseBackend, made),
        ("compressed, ours", SparseBackend, compressed),
        ("compressed, stock", StockBackend, compressed),
    ):
        found, session = answer(backend, variant, inputs[:1])
        problem = difference(found, expected, exact=False)
        if problem:
            return f"{what}: {problem}", sparse
        if backend is SparseBackend:
            sparse = sum(report.is_sparse for report in session.explain())
    return "", sparse


def run(step=1):
    """Return how many tests were run and layers ran sparse, and what differed."""
    counts, problems = Counter(), []
    for kind, name, model, inputs in cases(step):
        counts[kind] += 1
        if draws(model):
            counts["random"] += 1
            continue
        problem = as_it_is(model, inputs)
        if problem:
            problems.append(f"{name}: {problem[:400]}")
        try:
            problem, sparse = pruned(model, inputs)
        except Exception as error:
            problem, sparse = f"prune or compress: {error!r}", 0
        counts["sparse layers"] += sparse
        counts["models with sparse layers"] += sparse > 0
        if problem:
            problems.append(f"{name}, {problem[:400]}")
    return counts, problems


def main():
    counts, problems = run(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    print(*problems, sep="\n")
    print(", ".join(f"{count} {what}" for what, count in counts.items()), f"; {len(problems)} differ")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
