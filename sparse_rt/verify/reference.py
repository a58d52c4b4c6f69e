"""The reference: a model in stock onnxruntime whose inner values can be looked at."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sparse_rt import stock
from sparse_rt.errors import ModelError, message
from sparse_rt.external import check_regular
from sparse_rt.stock import ModelSource

__all__ = ["Reference"]


class Reference:
    """A model in stock onnxruntime, and a session of it that shows inner values.

    Outputs come from a session of the untouched model: showing an inner value can keep onnxruntime from fusing what
    lies around it. No session is kept: a large model is in memory once at a time.

    Parameters
    ----------
    model
        Path, bytes or ModelProto.
    feeds
        Of the one run that everything is taken from.
    where
        What to call the model in messages.
    """

    def __init__(self, model: ModelSource, feeds: Mapping[str, NDArray[Any]], where: str) -> None:
        self._model = model
        self._where = where
        self._feeds = feeds
        self.names = _value_names(model, where)

    def outputs(self, *, optimise: bool = True, runs: int = 1, nudged: bool = False) -> dict[str, Any]:
        """Return the outputs by name.

        Parameters
        ----------
        optimise
            False for onnxruntime without its graph optimisations: another valid execution of the same file.
        runs
            How many there are, in one session; the last one's outputs are returned.
        nudged
            Whether to feed floats that are one step of their type away.
        """
        session = stock.open_session(self._model, where=self._where, optimise=optimise)
        names = [item.name for item in session.get_outputs()]
        feeds = stock.known_feeds(session, self._feeds)
        if nudged:
            feeds = {name: _nudged(array) for name, array in feeds.items()}
        found: dict[str, Any] = {}
        for _ in range(runs):
            found = dict(zip(names, stock.run(session, None, feeds), strict=True))
        return found

    def look_inside(self, names: Iterable[str], *, optimise: bool = True) -> "Inside":
        """Return a view on the values `names`, each among :attr:`names`; `optimise` as for :meth:`outputs`."""
        session = stock.open_session(self._model, extra_outputs=names, where=self._where, optimise=optimise)
        return Inside(session, stock.known_feeds(session, self._feeds))


def _nudged(array: Any) -> Any:
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return array
    return np.nextafter(array, array.dtype.type(np.inf))


class Inside:
    """A session that can return inner values."""

    def __init__(self, session: Any, feeds: Mapping[str, NDArray[Any]]) -> None:
        self._session = session
        self._feeds = feeds

    def values(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return some of the values; a run of its own, so that a large model's values need not fit memory at once."""
        return dict(zip(names, stock.run(self._session, names, self._feeds), strict=True))


def _value_names(model: ModelSource, where: str) -> frozenset[str]:
    """Return the names of values that nodes of the main graph write."""
    if isinstance(model, onnx.ModelProto):
        proto = model
    else:
        if not isinstance(model, bytes):
            check_regular(model, where)
        try:
            if isinstance(model, bytes):
                proto = onnx.load_model_from_string(model)
            else:
                proto = onnx.load(os.fspath(model), load_external_data=False)
        except Exception as error:  # protobuf's own types are not public
            raise ModelError(message(where, "a model in ONNX protobuf form", str(error))) from error
    return frozenset(name for node in proto.graph.node for name in node.output if name)
