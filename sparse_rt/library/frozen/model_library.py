"""Write the library of a model: kernels for stock onnxruntime in processes without Python."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray
from sparse_rt_kernels.custom_op.contents import Domain
from sparse_rt_kernels.custom_op.frozen_library import Node, frozen_library
from sparse_rt_kernels.jit.shared_object import LinkError

from sparse_rt import arguments
from sparse_rt.boundary import public
from sparse_rt.errors import ConfigError, ModelError, message
from sparse_rt.feeds import Input, random_feeds
from sparse_rt.library import operators
from sparse_rt.library.frozen.calls import Calls, FrozenCalls
from sparse_rt.library.frozen.parts import Parts, parts_of
from sparse_rt.library.frozen.recording import Recorded, Recording, attributes_of
from sparse_rt.library.node_segment import Refusal
from sparse_rt.output_file import open_output
from sparse_rt.plan.bind.segment import Segment

__all__ = ["LibraryLayer", "ModelLibrary", "write_library"]

_WHERE: Final = "library"


@dataclass(frozen=True)
class LibraryLayer:
    """What becomes of a compressed layer.

    Attributes
    ----------
    name
        Of its node.
    operator
        Its operator.
    calls
        How many calls the library holds for it; 0 where it holds none.
    reason
        Why it holds none: then the function body of the file runs. None otherwise.
    """

    name: str
    operator: str
    calls: int
    reason: str | None


class ModelLibrary(NamedTuple):
    """A library that was written: what it holds, and its size in bytes."""

    layers: tuple[LibraryLayer, ...]
    nbytes: int


class _Planned(NamedTuple):
    recorded: Recorded
    segment: Segment
    parts: Parts
    frozen: FrozenCalls


@public
def write_library(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    threads: int | None = None,
    feeds: Mapping[str, NDArray[Any]] | None = None,
) -> ModelLibrary:
    """Write a library of custom operators for one compressed model, for processes without Python.

    The model is run a few times to see which shapes its layers meet. Layers whose inputs have an open number of rows or
    images are served for any number of them. Where a layer meets shapes that are open in another way, all layers of its
    operator are left to the function bodies of the file. The library runs on CPUs with all instructions of this one.

    Parameters
    ----------
    model
        Path of a compressed model.
    output
        Of the library, which is replaced whole or not at all.
    threads
        The most threads that it is prepared for; as many as there are CPUs if None. It is prepared for 1, 2, 4, ... of
        them and for that number; a session of onnxruntime on more threads uses as many of them.
    feeds
        Inputs whose shapes the library is to serve, beside what follows from it; random ones of usual sizes if None.

    Raises
    ------
    ModelError
        The model is not compressed, or cannot be run.
    ConfigError
        This system has no such libraries, or none of the model's layers can be served.
    """
    arguments.path("model", model, ModelError)
    arguments.path("output", output, ConfigError)
    path = os.fspath(model)
    try:
        recording = Recording(path)
    except LookupError as error:
        raise ConfigError(message(_WHERE, "x86-64 Linux, and kernels that are compiled", str(error))) from error
    count = len(os.sched_getaffinity(0)) if threads is None else arguments.integer("threads", threads, 1, ConfigError)
    if not recording.nodes:
        remedy = "Compress it: sparse-rt compress MODEL -o OUT."
        raise ModelError(message(f"model '{path}'", "compressed layers", "none", remedy))
    recording.run(random_feeds(recording.session.get_inputs()) if feeds is None else feeds)
    _run_with_other_sizes(recording, feeds)
    return _write(recording, os.fspath(output), _numbers(count))


def _numbers(most: int) -> list[int]:
    """Return 1, 2, 4, ... and `most`."""
    return sorted({most, *(1 << bit for bit in range(most.bit_length()))} - {0})


class _Sized(NamedTuple):
    """An input of a model with some of its open sizes chosen."""

    name: str
    shape: Sequence[int | str | None]
    type: str


def _run_with_other_sizes(recording: Recording, feeds: Mapping[str, NDArray[Any]] | None) -> None:
    """Run the model with each open size chosen otherwise, as far as the model can be run so."""
    inputs = recording.session.get_inputs()
    first = feeds if feeds is not None else random_feeds(inputs)
    for name in dict.fromkeys(size for each in inputs for size in each.shape if not isinstance(size, int)):
        sizes = [
            first[each.name].shape[axis]
            for each in inputs
            for axis, size in enumerate(each.shape)
            if size == name and each.name in first
        ]
        if not sizes:
            continue
        for other in (2 * sizes[0], sizes[0] + 1, max(1, sizes[0] // 2)):
            if other != sizes[0] and _runs(recording, _resized(inputs, first, name, other)):
                break


def _resized(inputs: Iterable[Input], first: Mapping[str, NDArray[Any]], name: str | None, other: int) -> list[_Sized]:
    return [
        _Sized(
            each.name,
            [
                other if size == name and not isinstance(size, int) else first[each.name].shape[axis]
                for axis, size in enumerate(each.shape)
            ],
            each.type,
        )
        for each in inputs
        if each.name in first
    ]


def _runs(recording: Recording, inputs: list[_Sized]) -> bool:
    try:
        recording.run(random_feeds(inputs))
    except Exception:  # onnxruntime's, of any kind: the model does not take such inputs
        return False
    return True


def _write(recording: Recording, output: str, threads: Sequence[int]) -> ModelLibrary:
    calls = Calls()
    planned: list[_Planned] = []
    # By the name: onnxruntime looks for no function body where a library has the operator for any types.
    refused: dict[str, Refusal] = {}
    by_identity: dict[tuple[int, tuple[int, int]], _Planned] = {}
    for recorded in recording.nodes:
        found = _plan(recorded, calls, threads)
        if not isinstance(found, Refusal):
            same = by_identity.setdefault((recorded.number, recorded.identity), found)
            if not _is_alike(found, same):
                found = Refusal(f"layer '{same.recorded.name}' has the same weight, and inputs of other shapes")
        if isinstance(found, Refusal):
            refused.setdefault(_operator(recorded), Refusal(f"layer '{recorded.name}': {found.reason}"))
        else:
            planned.append(found)
    served = [each for each in planned if _operator(each.recorded) not in refused]
    layers = tuple(_layer(recorded, served, refused) for recorded in recording.nodes)
    if not served:
        got = "; ".join(dict.fromkeys(refusal.reason for refusal in refused.values()))
        raise ConfigError(message(_WHERE, "a layer that can be served without Python", got))
    content = _content(served, calls, os.path.basename(output))
    with open_output(output) as file:
        file.write(content)
    return ModelLibrary(layers, len(content))


def _plan(recorded: Recorded, calls: Calls, threads: Sequence[int]) -> _Planned | Refusal:
    if recorded.refusal is not None:
        return recorded.refusal
    segment = recorded.runner
    if not isinstance(segment, Segment):
        return Refusal("no kernel takes it")
    parts = parts_of(segment, list(recorded.shapes), recorded.dtypes)
    if isinstance(parts, Refusal):
        return parts
    frozen = calls.freeze(segment, parts, threads)
    return frozen if isinstance(frozen, Refusal) else _Planned(recorded, segment, parts, frozen)


def _is_alike(one: _Planned, other: _Planned) -> bool:
    """Return whether calls of both may be those of one node."""
    units, others = ((each.parts.leading, each.frozen.input_bytes, each.frozen.output_bytes) for each in (one, other))
    return units == others and one.recorded.places == other.recorded.places


def _operator(recorded: Recorded) -> str:
    return operators.name_of(recorded.number)[1]


def _layer(recorded: Recorded, served: Sequence[_Planned], refused: Mapping[str, Refusal]) -> LibraryLayer:
    op_type = _operator(recorded)
    found = next((each for each in served if each.recorded is recorded), None)
    if found is None:
        return LibraryLayer(recorded.name, op_type, 0, refused[op_type].reason)
    return LibraryLayer(recorded.name, op_type, len(found.frozen.calls), None)


def _content(served: Sequence[_Planned], calls: Calls, soname: str) -> bytes:
    numbers = sorted({each.recorded.number for each in served})
    domains = _chosen(operators.domains(), numbers)
    attributes = {new: attributes_of(operators.name_of(number)[1]) for new, number in enumerate(numbers)}
    nodes = [
        Node(
            each.recorded.name,
            numbers.index(each.recorded.number),
            each.recorded.identity,
            each.recorded.places,
            each.frozen.calls,
            each.parts.leading,
            each.frozen.input_bytes,
            each.frozen.output_bytes,
        )
        for each in _joined(served)
    ]
    try:
        return frozen_library(domains, nodes, attributes, calls.codes, calls.blocks, soname)
    except (LookupError, LinkError) as error:
        raise ConfigError(message(_WHERE, "code and data of at most 2 GB that can be kept", str(error))) from error


def _joined(served: Sequence[_Planned]) -> list[_Planned]:
    """Return the nodes, those that are told apart by nothing as one with the calls of all."""
    found: dict[tuple[int, tuple[int, int]], _Planned] = {}
    for each in served:
        key = each.recorded.number, each.recorded.identity
        before = found.get(key)
        if before is None:
            found[key] = each
        else:
            calls = tuple(dict.fromkeys((*before.frozen.calls, *each.frozen.calls)))
            found[key] = before._replace(
                frozen=FrozenCalls(calls, before.frozen.input_bytes, before.frozen.output_bytes)
            )
    return list(found.values())


def _chosen(domains: Sequence[Domain], numbers: Sequence[int]) -> list[Domain]:
    """Return the domains with the operators of these numbers."""
    found, number = [], 0
    for domain in domains:
        chosen = []
        for operator in domain.operators:
            if number in numbers:
                chosen.append(operator)
            number += 1
        if chosen:
            found.append(Domain(domain.name, tuple(chosen)))
    return found
