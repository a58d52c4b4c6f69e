"""Models of many forms, sparse, dense and partly sparse, on which the session must not be slower than onnxruntime."""

from collections.abc import Callable

import onnx
from onnx import numpy_helper

from benchmarks.models import classifiers, dlrm, resnet50, tagger, transformers, unet
from benchmarks.models.networks import Network
from sparse_rt.prune import prune

__all__ = ["VARIETY"]


def _as_it_is(model: onnx.ModelProto) -> onnx.ModelProto:
    return model


def _every_second_layer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Prune every second weight."""
    pruned = {tensor.name: tensor for tensor in prune(model).graph.initializer}
    changed = 0
    for tensor in model.graph.initializer:
        same = (numpy_helper.to_array(tensor) == numpy_helper.to_array(pruned[tensor.name])).all()
        if not same and (changed := changed + 1) % 2:
            tensor.CopyFrom(pruned[tensor.name])
    return model


def _mlp(widths: tuple[int, ...], batch: int, change: Callable[[onnx.ModelProto], onnx.ModelProto] = prune) -> Network:
    # Relu is listed because only then the quantiser leaves it out: a zero point of 0 does its work.
    return Network(
        lambda: dlrm.top_mlp(batch=batch, widths=widths),
        lambda: dlrm.calibration_feeds(batch=batch, inputs=widths[0]),
        quantised=("Gemm", "Relu"),
        change=change,
    )


def _small_resnet() -> onnx.ModelProto:
    return resnet50.resnet50(batch=1, size=96, classes=100, blocks=(1, 1, 1, 1))


def _small_images() -> list[dict[str, object]]:
    return resnet50.calibration_feeds(size=96)


_MATMUL = ("MatMul",)
_TINY, _NARROW = (16, 32, 16, 4), (64, 128, 128, 10)

#: What is dense says so; everything else is 2:4 wherever it can be.
VARIETY: dict[str, Network] = {
    "vgg": Network(classifiers.vgg, classifiers.calibration_feeds),
    "vgg_dense": Network(classifiers.vgg, classifiers.calibration_feeds, change=_as_it_is),
    "densenet": Network(classifiers.densenet, classifiers.calibration_feeds),
    "squeezenet": Network(classifiers.squeezenet, classifiers.calibration_feeds),
    "efficientnet": Network(classifiers.efficientnet, classifiers.calibration_feeds),
    "mobilenet_v3": Network(classifiers.mobilenet_v3, classifiers.calibration_feeds),
    "unet": Network(unet.unet, unet.calibration_feeds),
    "resnet_half_sparse": Network(_small_resnet, _small_images, change=_every_second_layer),
    "resnet_dense": Network(_small_resnet, _small_images, change=_as_it_is),
    "decoder": Network(transformers.decoder, transformers.decoder_feeds, quantised=_MATMUL),
    "vit": Network(transformers.vision, classifiers.calibration_feeds, quantised=_MATMUL),
    "vit_dense": Network(transformers.vision, classifiers.calibration_feeds, quantised=_MATMUL, change=_as_it_is),
    "lstm_tagger": Network(lambda: tagger.tagger("LSTM"), tagger.calibration_feeds, quantised=_MATMUL),
    "gru_tagger": Network(lambda: tagger.tagger("GRU"), tagger.calibration_feeds, quantised=_MATMUL),
    "mlp_tiny_m1": _mlp(_TINY, 1),
    "mlp_tiny_dense_m1": _mlp(_TINY, 1, _as_it_is),
    "mlp_narrow_m1": _mlp(_NARROW, 1),
    "mlp_narrow_m64": _mlp(_NARROW, 64),
    "dlrm_half_sparse_m1": _mlp(dlrm.WIDTHS, 1, _every_second_layer),
}
