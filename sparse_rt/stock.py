"""Stock onnxruntime: the dense engine that verify and bench hold sparse_rt against."""

import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from sparse_rt.empty_pools import WITHOUT_BLOCKS, watched
from sparse_rt.errors import FeedError, ModelError, SparseRTError, message
from sparse_rt.external import check_regular, relocate

__all__ = ["ModelSource", "known_feeds", "misreads", "name_of", "open_session", "run"]

ModelSource: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto

_FATAL = 4
_FIRST_WITH_OVERLOADS = (1, 27)


def name_of(model: ModelSource, otherwise: str) -> str:
    """Return a model's path, `otherwise` for one that is in memory."""
    return otherwise if isinstance(model, bytes | onnx.ModelProto) else os.fspath(model)


def misreads(model: ModelSource | bytearray | memoryview) -> bool:
    """Return whether this onnxruntime computes something else than `model` says, without a word.

    Before 1.27 it ignores the overloads of local functions (checked with 1.17 to 1.32): where a model tells functions
    apart by them, one body serves every call of a name.

    Raises
    ------
    OSError
        The file cannot be read.
    DecodeError
        It is no ONNX.
    """
    version = tuple(int(part) for part in ort.__version__.split(".")[:2])
    if version >= _FIRST_WITH_OVERLOADS:
        return False
    if isinstance(model, onnx.ModelProto):
        proto = model
    elif isinstance(model, str | os.PathLike):
        proto = onnx.load(os.fspath(model), load_external_data=False)
    else:
        proto = onnx.load_model_from_string(bytes(model))
    return any(function.overload for function in proto.functions)


def open_session(
    model: ModelSource,
    threads: int = 0,
    extra_outputs: Iterable[str] = (),
    where: str = "model",
    *,
    optimise: bool = True,
    profile: Path | None = None,
) -> Any:
    """Return an onnxruntime session on the CPU, nothing of sparse_rt in it, but kept from ending the process.

    Parameters
    ----------
    model
        Path, serialised model or ModelProto. External data is found beside a path.
    threads
        Of one operator; 0 leaves the choice to onnxruntime.
    extra_outputs
        Names of values inside the main graph that shall be outputs too, in this order after the model's own.
    where
        What to call the model in messages.
    optimise
        Whether onnxruntime may rewrite the graph: every optimisation, or none.
    profile
        What the name of a profile of all runs begins with; None for no profile.

    Raises
    ------
    ModelError
        onnxruntime does not load the model, or would misread it, see :func:`misreads`.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if threads:
        options.intra_op_num_threads = threads
    extra = list(extra_outputs)
    if isinstance(model, str | os.PathLike):
        check_regular(model, where)
    try:
        if misreads(model):
            got = f"function overloads, which onnxruntime {ort.__version__} ignores"
            remedy = "Write the model again with sparse-rt compress, or update onnxruntime."
            raise ModelError(message(where, "local functions with names of their own", got, remedy))
        if isinstance(model, str | os.PathLike) and not extra:
            source: str | bytes = os.fspath(model)
        else:
            source = _serialise(model, extra, options)

        def native(careful: bool = False) -> ort.InferenceSession:
            others = WITHOUT_BLOCKS if careful else {}
            return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"], **others)

        return watched(native, source) if _has_pools(source) else native()
    except SparseRTError:
        raise
    except OSError as error:
        raise ModelError(message(where, "a readable file", error.strerror or str(error))) from error
    except Exception as error:  # onnxruntime and protobuf raise a dozen unrelated types for a bad model
        raise ModelError(message(where, "a model that stock onnxruntime loads", _one_line(error))) from error


def _serialise(model: ModelSource, extra: Sequence[str], options: ort.SessionOptions) -> bytes:
    if isinstance(model, bytes):
        if not extra:
            return model
        proto = onnx.load_model_from_string(model)
    elif isinstance(model, onnx.ModelProto):
        if not extra:
            return bytes(model.SerializeToString())
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
    else:
        # Tensors stay in their files: a model may be larger than one protobuf message can be.
        proto = onnx.load(os.fspath(model), load_external_data=False)
        folder = str(relocate(proto, Path(model), f"model '{os.fspath(model)}'"))
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    present = {value.name for value in proto.graph.output}
    # A bare name suffices: onnxruntime infers the type.
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra if name not in present)
    return bytes(proto.SerializeToString())


def _has_pools(source: str | bytes) -> bool:
    """Return whether a model may hold poolings; parsing it to see that would take its size in memory."""
    if isinstance(source, bytes):
        return b"Pool" in source
    with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"Pool") >= 0


def known_feeds(session: Any, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the feeds that a session takes: of its inputs, and of initializers that callers may override."""
    known = {item.name for item in (*session.get_inputs(), *session.get_overridable_initializers())}
    return {name: array for name, array in feeds.items() if name in known}


def run(session: Any, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Run `session` and return the outputs `names`, or all.

    Raises
    ------
    FeedError
        onnxruntime refuses the feeds or fails on them.
    """
    try:
        return list(session.run(names, dict(feeds)))
    except SparseRTError:
        raise
    except Exception as error:  # see open_session
        raise FeedError(message("stock onnxruntime", "feeds that it runs", _one_line(error))) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
