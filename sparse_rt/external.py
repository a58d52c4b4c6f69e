"""External data of a model: the files, beside it, that hold its tensors' bytes.

What a tensor names is looked for in the model's own folder, and nowhere else, wherever in the model the tensor is. The
rules are onnxruntime's, which keep a model from reading files that do not belong to it: relative locations only; the
file that they lead to, links followed, lies in the model's folder, or in the folder of the file that the model itself
is a link to (the cache of the Hugging Face hub: links to blobs beside each other).
"""

import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import onnx

from sparse_rt.errors import ModelError, message
from sparse_rt.protos import attribute_tensors, graphs, initializers, node_lists

__all__ = ["ExternalData", "check_regular", "model_tensors", "open_regular", "relocate"]

_REMEDY = "Keep the model and its data files together."
_KEYS = ("location", "offset", "length", "checksum")
_PREPACKED = "prepacked"  # onnxruntime's own notes begin with it
_LONGEST = 1 << 62


def open_regular(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of a regular file, open for reading; never waits for a writer, as opening a FIFO would.

    Raises
    ------
    OSError
        It cannot be opened.
    ValueError
        It is a folder, a device, a FIFO or a socket, or the path cannot be one.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("no regular file")
    return handle


def check_regular(path: str | os.PathLike[str], where: str) -> None:
    """Raise ModelError unless a path leads to a regular file that can be read.

    For readers of others, which would wait for the writer of a FIFO, or read a device for ever.
    """
    try:
        os.close(open_regular(path))
    except FileNotFoundError as error:
        raise ModelError(message(where, "an ONNX file", "no such file")) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            message(where, "a readable ONNX file", getattr(error, "strerror", None) or str(error))
        ) from error


class ExternalData:
    """The data files of one model, mapped from disk when first asked for.

    Parameters
    ----------
    path
        Of the model; None for one without, whose data is in the working directory.
    where
        What to call the model in messages.
    """

    def __init__(self, path: Path | None, where: str) -> None:
        self._folder = Path() if path is None else path.parent
        folders = [self._folder.resolve(), *([] if path is None else [path.resolve().parent])]
        self._allowed = tuple(dict.fromkeys(folders))
        self._where = where
        self._files: dict[str, memoryview] = {}

    def of(self, tensor: onnx.TensorProto, nbytes: int) -> memoryview:
        """Return the bytes of a tensor that has them in a file.

        Parameters
        ----------
        tensor
            Whose ``data_location`` is EXTERNAL.
        nbytes
            That its type and shape need.

        Raises
        ------
        ModelError
            The tensor names no file that the model may read, or bytes that the file does not have.
        """
        where = f"{self._where}, tensor '{tensor.name}'"
        entries = _entries(tensor, where)
        offset = _number(entries, "offset", where)
        # onnxruntime reads a length of 0 as one that is not given.
        length = _number(entries, "length", where) or nbytes
        if length != nbytes:
            raise ModelError(
                message(where, f"{nbytes} bytes of external data", f"{length} at offset {offset}", "Export it again.")
            )
        content = self._file(entries["location"], where)
        if offset + length > len(content):
            expected = f"external data at {offset}..{offset + length} of '{entries['location']}'"
            raise ModelError(message(where, expected, f"a file of {len(content)} bytes", _REMEDY))
        return content[offset : offset + length]

    def _file(self, location: str, where: str) -> memoryview:
        if location not in self._files:
            path = self._resolved(location, where)
            expected = f"external data in '{self._folder / location}'"
            try:
                handle = open_regular(path)
                try:
                    size = os.fstat(handle).st_size
                    content = mmap.mmap(handle, 0, access=mmap.ACCESS_READ) if size else b""
                finally:
                    os.close(handle)
            except (OSError, ValueError) as error:
                got = getattr(error, "strerror", None) or str(error)
                raise ModelError(message(where, expected, got, _REMEDY)) from error
            self._files[location] = memoryview(content)
        return self._files[location]

    def _resolved(self, location: str, where: str) -> Path:
        """Return the file that a location leads to, if it is one that the model may read."""
        if not location or "\0" in location or location.endswith(("/", os.sep)):
            raise ModelError(message(where, "a file name as external data", repr(location), "Export it again."))
        rule = "external data in the model's own folder"
        if Path(location).is_absolute() or location.startswith(("/", "\\")):
            raise ModelError(message(where, rule, f"the absolute path '{location}'", "Export it again."))
        try:
            os.stat(self._folder / location)  # a step through a folder that is not there leads nowhere
            path = Path(os.path.realpath(self._folder / location))
        except FileNotFoundError as error:
            expected = f"external data in '{self._folder / location}'"
            raise ModelError(message(where, expected, "no such file", _REMEDY)) from error
        except (OSError, ValueError) as error:
            raise ModelError(message(where, rule, f"'{location}', {error}", _REMEDY)) from error
        if not any(path.is_relative_to(folder) for folder in self._allowed):
            raise ModelError(message(where, rule, f"'{location}', which leads to '{path}'", _REMEDY))
        return path

    def real_location(self, tensor: onnx.TensorProto) -> Path:
        """Return the file that a tensor names, links followed."""
        where = f"{self._where}, tensor '{tensor.name}'"
        return self._resolved(_entries(tensor, where)["location"], where)


def _entries(tensor: onnx.TensorProto, where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in found or not _is_entry(entry):
            expected = f"one entry each among {', '.join(_KEYS)} as external data"
            raise ModelError(message(where, expected, f"{entry.key!r} = {entry.value!r}", "Export it again."))
        found[entry.key] = entry.value
    if "location" not in found:
        raise ModelError(message(where, "a file name as external data", "no location", "Export it again."))
    return found


def _is_entry(entry: onnx.StringStringEntryProto) -> bool:
    is_known = entry.key in _KEYS or (isinstance(entry.key, str) and entry.key.startswith(_PREPACKED))
    return is_known and isinstance(entry.value, str)


def _number(entries: dict[str, str], key: str, where: str) -> int:
    text = entries.get(key, "0")
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) > _LONGEST:
        rule = f"a number below 2**62 as {key} of external data"
        raise ModelError(message(where, rule, repr(text[:40]), "Export it again."))
    return int(text)


def model_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model: initializers, sparse ones' parts, and those in attributes, everywhere."""
    for graph in graphs(proto):
        yield from initializers(graph)
    for nodes in node_lists(proto):
        yield from attribute_tensors(nodes)


def relocate(proto: onnx.ModelProto, path: Path, where: str) -> Path:
    """Let the tensors of a model that was read from `path` name their files from the folder that is returned.

    onnxruntime finds them from there, without the path: links are followed beforehand.

    Raises
    ------
    ModelError
        A tensor names no file that the model may read.
    """
    named = [tensor for tensor in model_tensors(proto) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    data = ExternalData(path, where)
    found = [data.real_location(tensor) for tensor in named]
    if not found:
        return path.resolve().parent
    folder = Path(os.path.commonpath([file.parent for file in found]))
    for tensor, file in zip(named, found, strict=True):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(file.relative_to(folder))
    return folder
