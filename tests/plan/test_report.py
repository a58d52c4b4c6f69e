"""Reports of layers."""

import dataclasses
import json

import sparse_rt as srt
from sparse_rt.plan.report import Trial


def test_reports_become_documents():
    tried = (Trial("onnxruntime", 1),)
    report = srt.LayerReport("l", "MatMul", (8, 4), "2:4", 0.5, "int8", None, "r", 1, 1, tried)
    document = json.loads(json.dumps(dataclasses.asdict(report)))
    assert document["tried"][0] == {"candidate": "onnxruntime", "microseconds": 1}
