"""Whatever a caller gives, and whatever fails below, public functions raise errors of ours alone."""

import ctypes
import inspect
import pickle
import random
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as native

import sparse_rt as srt
from sparse_rt import feeds, formats, sparsity
from sparse_rt.bench import bench
from sparse_rt.boundary import public
from sparse_rt.formats import CompressedWeight
from sparse_rt.graph.passes.compress import compress_model
from sparse_rt.prune import prune_model
from sparse_rt.quantize import quantize_file
from tests.models.onnx_models import info, model, node, sparse

ASCEND = [getattr(srt.ascend, name) for name in srt.ascend.__all__ if inspect.isfunction(getattr(srt.ascend, name))]


class Text(str):
    """A subclass, as NumPy's own text is."""


class Hostile:
    """An object whose every method fails."""

    def fail(self, *arguments):
        raise ZeroDivisionError("hostile")

    __fspath__ = __index__ = __len__ = __repr__ = __iter__ = __getitem__ = __float__ = __eq__ = __bool__ = fail
    __array__ = fail
    __hash__ = object.__hash__


def deep():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    return nested


VALUES = [
    *(None, 0, 3, -1, 2**70, 1.5, float("nan"), float("inf"), True, 1j, "", "\0", "x", "2:4", b"", b"abc", b"\x08\x07"),
    *([], [None], {}, {"x": None}, {3: 4}, {"x": np.zeros((3, 16), np.float32)}, (), set(), object(), object, len),
    *(Hostile(), Text("no such file"), Path("no such file"), Path(), deep(), memoryview(b"abc"), bytearray(b"abc")),
    *(np.float32(1), np.int64(4), np.bool_(True), np.str_("x"), np.array(3), np.zeros((0, 4), np.int8)),
    *(np.zeros((16, 32), np.int8), np.zeros((4, 2), np.int8), np.zeros((4, 1), np.uint8), np.zeros((4, 8), object)),
    *(np.full((4, 1), 255, np.uint8), np.zeros(3, [("a", int)]), np.array(["x"]), np.zeros(600, np.uint8)),
    *(onnx.ModelProto(), onnx.GraphProto(), srt.SessionOptions(1), ort.SessionOptions(), range(3), iter([])),
    *(
        CompressedWeight(None, None, None),
        CompressedWeight(np.zeros((4, 2), np.int8), np.zeros((4, 1), np.uint8), (4, 4)),
    ),
]


@pytest.fixture
def proto():
    """A sparse layer, and an operator for onnxruntime that fails where an index is out of range."""
    rng = np.random.default_rng(1)
    return model(
        [node("MatMul", ["x", "w"], ["a"]), node("Gather", ["a", "i"], ["y"])],
        [info("x", 3, 16), onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [1])],
        [info("y", 1, 8)],
        {"w": sparse(rng, 8, 16).T.copy()},
    )


def call(function, arguments, options):
    """Call a function; whatever it raises is ours, and says something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = None
        try:
            function(*arguments, **options)
        except srt.SparseRTError as error:
            found = error
    assert found is None or str(found)
    # What a caller's own object raises is no mistake of ours, but it has no better name.
    is_callers = isinstance(found, srt.InternalError) and isinstance(found.__cause__, ZeroDivisionError)
    assert is_callers or not isinstance(found, srt.InternalError), f"{found} from {found.__cause__!r}"


def attacks(function, seed, rounds):
    """Yield arguments by name, some left out: mostly one hostile value among plausible ones."""
    rng = random.Random(seed)
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "passed_on")]
    for _ in range(rounds):
        chosen = names if rng.random() < 0.9 else rng.sample(names, rng.randrange(len(names) + 1))
        yield {name: rng.choice(VALUES) for name in chosen}


WEIGHTS = [
    *(sparsity.parse, sparsity.find, sparsity.check, sparsity.holds, sparsity.require, sparsity.magnitude_mask),
    *(sparsity.density, formats.encode, formats.decode, formats.encode_matrix, formats.decode_matrix, formats.check),
    *(formats.to_nvidia_metadata, formats.from_nvidia_metadata),
]


@pytest.mark.parametrize("function", WEIGHTS, ids=lambda function: f"{function.__module__}.{function.__name__}")
def test_formats_and_patterns_on_hostile_arguments(function):
    for options in attacks(function, 1, 300):
        call(function, (), options)


@pytest.mark.parametrize("function", ASCEND, ids=lambda function: function.__name__)
@pytest.mark.parametrize("seed", range(4))
def test_ascend_on_hostile_arguments(function, seed):
    for options in attacks(function, seed, 150):
        call(function, (), options)


FILES = [srt.compress, srt.prune, compress_model, prune_model, feeds.random_feeds, feeds.read_npz]


@pytest.mark.parametrize("function", FILES, ids=lambda function: function.__name__)
def test_functions_of_models_and_files_on_hostile_arguments(function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options in attacks(function, 1, 100):
        call(function, (), options)


def test_sessions_on_hostile_arguments(proto):
    plausible = {"path_or_bytes": proto, "sess_options": srt.SessionOptions(1), "providers": ["CPUExecutionProvider"]}
    for name in plausible:
        for value in VALUES:
            call(srt.InferenceSession, (), {**plausible, name: value})
    for value in VALUES:
        call(srt.InferenceSession, (), {"path_or_bytes": value})


def test_session_options_on_hostile_values():
    names = [*inspect.signature(srt.SessionOptions).parameters, "logid", "execution_mode", "use_per_session_threads"]
    for name in names:
        for value in VALUES:
            call(srt.SessionOptions, (), {name: value})
    options = srt.SessionOptions()
    for value in VALUES:
        call(options.add_session_config_entry, (value, "1"), {})
        call(options.add_session_config_entry, ("key", value), {})
        call(options.get_session_config_entry, (value,), {})


@pytest.mark.parametrize("outer", ["ours", "onnxruntime"])
def test_runs_on_hostile_arguments(proto, outer):
    if outer == "onnxruntime":
        proto = model([node("Relu", ["x"], ["y"])], [info("x", 3, 16)], [info("y", 3, 16)], {})
    session = srt.InferenceSession(proto, srt.SessionOptions(1, tuning="sparse"))
    good = {"x": np.zeros((3, 16), np.float32)}
    if outer == "ours":
        good["i"] = np.zeros(1, np.int64)
    for value in VALUES:
        call(session.run, (value, good), {})
        call(session.run, (None, value), {})
        call(session.run, (None, {**good, "x": value}), {})
        call(session.run, ([value], good), {})
        call(session.run, (None, good, value), {})
    assert len(session.run(None, good)) == 1


def test_verify_on_hostile_arguments(proto):
    names = ("model", "reference", "feeds", "batch", "seed", "threads")
    rng = random.Random(1)
    for name in names:
        for value in VALUES if name == "model" else rng.sample(VALUES, 12):
            call(srt.verify, (), {"model": proto, "threads": 1, name: value})


def test_bench_refuses_hostile_arguments_before_it_starts_a_process(proto, monkeypatch):
    monkeypatch.setattr("sparse_rt.bench.measure.EngineProcess", None)  # an InternalError, if it came so far
    bad = [
        value
        for value in VALUES
        if not isinstance(value, str | bytes | bytearray | memoryview | Path | onnx.ModelProto)
    ]
    for value in bad:
        with pytest.raises((srt.ModelError, srt.ConfigError)):
            bench(value)
    for name in ("threads", "seconds"):
        for value in (0, -1, "x", 2**70 if name == "seconds" else 1.5, [], float("nan")):
            with pytest.raises(srt.ConfigError, match=name):
                bench(proto, **{name: value})


def test_what_is_raised_names_the_argument(proto):
    with pytest.raises(srt.ModelError, match=r"path_or_bytes: expected a path.*, got None"):
        srt.InferenceSession(None)
    with pytest.raises(srt.ModelError, match=r"model: expected a path.*, got int"):
        srt.compress(3)
    with pytest.raises(srt.ConfigError, match="threads: expected a whole number, at least 0, got 'x'"):
        srt.verify(proto, threads="x")
    with pytest.raises(srt.FormatError, match="compress_weight: w: expected a NumPy array, got list"):
        srt.ascend.compress_weight([[1, 2]])
    with pytest.raises(srt.ConfigError, match="missing 1 required positional argument: 'model'") as found:
        srt.prune()
    assert isinstance(found.value, TypeError)
    tiles = np.zeros((1, 1, 16, 32), np.int8), np.zeros((1, 1, 16, 8), np.uint8)
    assert srt.ascend.from_fractal(*tiles, np.int64(16), np.uint8(64))


# --- failures below ------------------------------------------------------------------------------------------------

BELOW = [
    (MemoryError(), srt.ResourceError, MemoryError),
    (RecursionError("maximum recursion depth exceeded"), srt.ResourceError, RecursionError),
    (RuntimeError("can't start new thread"), srt.ResourceError, RuntimeError),
    (OSError(28, "No space left on device", "some file"), srt.ResourceError, OSError),
    (FileNotFoundError(2, "No such file", "a", None, "b"), srt.ResourceError, FileNotFoundError),
    (PermissionError("no"), srt.ResourceError, PermissionError),
    (ValueError("v"), srt.InternalError, Exception),
    (KeyError("k"), srt.InternalError, Exception),
    (AssertionError(), srt.InternalError, Exception),
    (NotImplementedError(), srt.InternalError, Exception),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "r"), srt.InternalError, Exception),
    (StopIteration(), srt.InternalError, Exception),
    (ctypes.ArgumentError("c"), srt.InternalError, Exception),
    (native.Fail("Non-zero status code returned"), srt.OperatorError, native.Fail),
    (native.RuntimeException("bad allocation"), srt.OperatorError, native.RuntimeException),
    (srt.FeedError("ours"), srt.FeedError, ValueError),
]


@pytest.mark.parametrize(("cause", "ours", "theirs"), BELOW, ids=lambda value: getattr(type(value), "__name__", ""))
def test_what_fails_below_becomes_ours_with_its_cause(cause, ours, theirs, proto, monkeypatch):
    def fail(*arguments, **options):
        raise cause

    session = srt.InferenceSession(proto, srt.SessionOptions(1, tuning="sparse"))
    good = {"x": np.zeros((3, 16), np.float32), "i": np.zeros(1, np.int64)}
    monkeypatch.setattr("sparse_rt.plan.plan.Plan.run", fail)
    monkeypatch.setattr("sparse_rt.graph.model_io.read", fail)
    monkeypatch.setattr("sparse_rt.tuning.tuner.Tuner.plan", fail)
    for function in (
        lambda: session.run(None, good),
        lambda: srt.compress(proto),
        lambda: srt.prune(proto),
        lambda: srt.verify(proto),
        lambda: srt.InferenceSession(proto),
        lambda: quantize_file(Path("a"), Path("b"), {}),
    ):
        with pytest.raises(ours) as found:
            function()
        assert isinstance(found.value, theirs)
        assert found.value is cause or found.value.__cause__ is cause
        again = pickle.loads(pickle.dumps(found.value))
        assert type(again) is type(found.value)
        assert str(again) == str(found.value)
        if ours is srt.OperatorError:
            assert str(found.value) == str(cause)
        if isinstance(cause, OSError):
            assert (found.value.errno, found.value.filename) == (cause.errno, cause.filename)
            assert all(str(part) in str(found.value) for part in (cause.strerror, cause.filename) if part)
        if ours is srt.InternalError:
            assert type(cause).__name__ in str(found.value)
            assert "report" in str(found.value)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_program_passes(kind):
    def fail():
        raise kind

    with pytest.raises(kind):
        public(fail)()


def test_warnings_made_errors_pass():
    def warn():
        warnings.warn("w", srt.SparseRTWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(srt.SparseRTWarning):
            public(warn)()


def test_an_operator_that_fails_raises_what_onnxruntime_raises(proto):
    """A program that changes only its import keeps its ``except`` clauses."""
    feed = {"x": np.zeros((3, 16), np.float32), "i": np.array([7])}
    stock = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(native.InvalidArgument, match="indices element out of data bounds") as theirs:
        stock.run(None, feed)
    session = srt.InferenceSession(proto, srt.SessionOptions(1, tuning="sparse"))
    with pytest.raises(type(theirs.value), match="indices element out of data bounds") as ours:
        session.run(None, feed)
    assert isinstance(ours.value, srt.OperatorError)
    assert isinstance(ours.value.__cause__, native.InvalidArgument)
    whole = model([node("Gather", ["x", "i"], ["y"])], [info("x", 3, 16), proto.graph.input[1]], [info("y", 1, 16)], {})
    with pytest.raises(srt.OperatorError, match="indices element out of data bounds"):
        srt.InferenceSession(whole).run(None, feed)


def test_a_model_that_onnxruntime_refuses(proto):
    proto.graph.node.add(op_type="NoSuchOperator", input=["a"], output=["z"], domain="nobody")
    proto.opset_import.add(domain="nobody", version=1)
    proto.graph.output.append(info("z", 3, 8))
    with pytest.raises(Exception, match="NoSuchOperator") as theirs:
        ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(srt.ModelError) as ours:
        srt.InferenceSession(proto)
    assert isinstance(ours.value, type(theirs.value))


# --- npz files -----------------------------------------------------------------------------------------------------


def test_npz_files_that_unpickle_lie_or_explode(tmp_path):
    import io
    import zipfile

    path = tmp_path / "in.npz"
    np.savez(path, x=np.array([print], object))
    with pytest.raises(srt.FeedError, match="allow_pickle"):
        feeds.read_npz(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**42,)})
    deep_header = b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 9000
    for content in (header.getvalue(), header.getvalue() + bytes(64), deep_header, b"\x93NUMPY\x09\x09", b"\x93NUMPY"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
        with pytest.raises(srt.FeedError):
            feeds.read_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(bytes(1 << 20))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24  # the size that the directory declares
    data[at : at + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(srt.FeedError):
        feeds.read_npz(path)


def test_random_feeds_that_memory_cannot_hold():
    huge = onnx.helper.make_tensor_value_info("x", 1, [2**40, 4])
    proto = model([node("Relu", ["x"], ["y"])], [huge], [info("y", 2**40, 4)], {})
    session = srt.InferenceSession(proto)
    with pytest.raises(srt.FeedError, match="input 'x': expected an array that memory can hold"):
        feeds.random_feeds(session.get_inputs())
