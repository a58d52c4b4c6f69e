"""The benchmark networks by name, and their files: 2:4 pruned, float32 or static-QDQ int8, dense or compressed.

Sizes are fixed, batch (b), sequence (s) or rows (m) in the name: OpenVINO takes a tenth longer for an int8 BERT where
they are dynamic.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from benchmarks.models import bert, dlrm, mobilenet_v2, resnet50
from benchmarks.models.quantise import Feeds, quantise_static
from sparse_rt.graph import model_io, model_writer
from sparse_rt.graph.passes.compress import compress_model
from sparse_rt.prune import prune

__all__ = ["DTYPES", "NETWORKS", "Network", "cache_folder", "compressed_file", "dense_file"]

DTYPES = ("int8", "float32")
SEQUENCE = 128


@dataclass(frozen=True)
class Network:
    """How one network is built and fed."""

    build: Callable[[], onnx.ModelProto]
    """Return the float32 model, not pruned."""

    feeds: Callable[[], list[Feeds]]
    """Return random inputs, for calibration and for runs."""

    quantised: tuple[str, ...] | None = None
    """Operator types that int8 quantises; None is everything that can be."""

    change: Callable[[onnx.ModelProto], onnx.ModelProto] = prune
    """Makes weights sparse; may change the model that it is given."""


def _dlrm(batch: int) -> Network:
    # Relu is listed because only then the quantiser leaves it out: a zero point of 0 does its work.
    return Network(
        lambda: dlrm.top_mlp(batch=batch), lambda: dlrm.calibration_feeds(batch=batch), quantised=("Gemm", "Relu")
    )


NETWORKS: dict[str, Network] = {
    "resnet50_b1": Network(lambda: resnet50.resnet50(batch=1), resnet50.calibration_feeds),
    "bert_base_s128": Network(
        lambda: bert.bert(batch=1, sequence=SEQUENCE),
        lambda: bert.calibration_feeds(sequence=SEQUENCE),
        quantised=("MatMul",),
    ),
    "dlrm_top_m128": _dlrm(128),
    "dlrm_top_m2048": _dlrm(2048),
    "mobilenet_v2_b1": Network(lambda: mobilenet_v2.mobilenet_v2(batch=1), mobilenet_v2.calibration_feeds),
}


def cache_folder() -> Path:
    """Return where models are kept by default: ``sparse_rt_models`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparse_rt_models"


def dense_file(folder: Path, name: str, dtype: str, networks: Mapping[str, Network] = NETWORKS) -> Path:
    """Return the pruned network with dense weights, ``NAME_DTYPE.onnx`` in `folder`; it is built if missing."""
    path = folder / f"{name}_{dtype}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        network = networks[name]
        model = network.change(network.build())
        if dtype == "int8":
            op_types = list(network.quantised) if network.quantised else None
            model = quantise_static(model, network.feeds(), op_types=op_types)
        model_writer.write(model_io.read(model), path)
    return path


def compressed_file(folder: Path, name: str, dtype: str) -> Path:
    """Return what users deploy, ``NAME_DTYPE_compressed.onnx`` in `folder`; it is built if missing."""
    path = folder / f"{name}_{dtype}_compressed.onnx"
    if not path.exists():
        model_writer.write(compress_model(model_io.read(dense_file(folder, name, dtype))).model, path)
    return path
