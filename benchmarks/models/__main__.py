"""``python -m benchmarks.models FOLDER``: write the benchmark networks, 2:4 pruned, float32 and static-QDQ int8."""

import argparse
from collections.abc import Callable
from pathlib import Path

import onnx

from benchmarks.models import bert, resnet50
from benchmarks.models.quantise import Feeds, quantise_static
from sparse_rt.prune import prune

Builder = Callable[[], tuple[onnx.ModelProto, list[Feeds], list[str] | None]]


def _resnet50() -> tuple[onnx.ModelProto, list[Feeds], list[str] | None]:
    return resnet50.resnet50(), resnet50.calibration_feeds(), None


def _bert_base() -> tuple[onnx.ModelProto, list[Feeds], list[str] | None]:
    return bert.bert(), bert.calibration_feeds(), ["MatMul"]


NETWORKS: dict[str, Builder] = {"resnet50": _resnet50, "bert_base": _bert_base}


def main() -> None:
    """Build, prune, quantise, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.network:
        model, feeds, op_types = NETWORKS[name]()
        pruned = prune(model, "2:4")
        for dtype, proto in (("float32", pruned), ("int8", quantise_static(pruned, feeds, op_types=op_types))):
            path = options.folder / f"{name}_{dtype}.onnx"
            onnx.save_model(proto, path)
            print(path)


if __name__ == "__main__":
    main()
