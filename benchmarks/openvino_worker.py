"""``python -m benchmarks.openvino_worker``: OpenVINO behind the same pipe as the engines of ``sparse_rt.bench``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from sparse_rt.bench import engines, worker

__all__ = ["OpenVino"]


class OpenVino:
    """OpenVINO on the CPU, for latency; float32 stays float32, where its default may be bfloat16."""

    def __init__(self, path: str, threads: int) -> None:
        self.version = f"openvino {ov.__version__.split('-')[0]}"
        options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        compiled = ov.Core().compile_model(path, "CPU", options)
        self._request = compiled.create_infer_request()
        self._ports = {port.any_name: port for port in compiled.inputs}

    def inputs(self) -> list[dict[str, Any]]:
        """Return nothing: feeds are made from another engine's inputs."""
        return []

    def set_feeds(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Take the feeds of the runs to come."""
        self._feeds = {self._ports[name]: np.ascontiguousarray(array) for name, array in feeds.items()}

    def run(self) -> None:
        """Compute every output once, inputs shared, outputs copied out as onnxruntime's session does."""
        self._request.infer(self._feeds, share_inputs=True)

    def open_profile(self, folder: Path) -> engines.Profile:
        """Refuse: OpenVINO is timed on whole models only."""
        raise NotImplementedError(f"OpenVINO writes no profile in {folder}")


engines.ENGINES["openvino"] = OpenVino

if __name__ == "__main__":
    worker.main("openvino")
