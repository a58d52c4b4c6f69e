"""The attributes of a dense operator with their defaults filled in."""

from collections.abc import Mapping
from types import MappingProxyType

import onnx_ir as ir

from sparse_rt.errors import ModelError, message
from sparse_rt.graph.dense_forms import DenseForm
from sparse_rt.graph.layers.layer import AttributeValue

__all__ = ["resolve"]


_AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def resolve(form: DenseForm, node: ir.Node, shape: tuple[int, ...]) -> Mapping[str, AttributeValue]:
    """Return the dense operator's attributes, also for a compressed node, which carries the same.

    Parameters
    ----------
    form
        What `node` computes.
    node
        Dense or compressed.
    shape
        Of the weight, kernel axes from the third on; shorter when the weight is not constant.

    Raises
    ------
    ModelError
        An attribute has another type than the operator's, or does not fit the kernel's axes.
    """
    where = f"layer '{node.name or node.outputs[0].name}'"
    defaults = _matmul_defaults(form) if form.kind == "matmul" else _conv_defaults(form, shape[2:])
    values: dict[str, AttributeValue] = {}
    for name, default in defaults.items():
        attribute = node.attributes.get(name)
        # Inside a function an attribute may refer to the caller's, which is not known here.
        values[name] = (
            default if attribute is None or attribute.is_ref() else _plain(attribute, form.attributes[name], where)
        )
    if form.kind != "matmul" and len(shape) > 2:
        _check_convolution(values, shape[2:], where)
    return MappingProxyType(values)


def _plain(attribute: ir.Attr, kind: ir.AttributeType, where: str) -> AttributeValue:
    if attribute.type != kind:
        expected = f"the attribute '{attribute.name}' of type {kind.name}"
        raise ModelError(message(where, expected, attribute.type.name, "The model is corrupt."))
    if kind == ir.AttributeType.INTS:
        return tuple(attribute.as_ints())
    if kind == ir.AttributeType.INT:
        return attribute.as_int()
    if kind == ir.AttributeType.FLOAT:
        return attribute.as_float()
    if kind == ir.AttributeType.FLOATS:
        return tuple(attribute.as_floats())
    # onnx_ir keeps bytes that are no text.
    return str(attribute.value)


def _check_convolution(values: Mapping[str, AttributeValue], kernel: tuple[int, ...], where: str) -> None:
    """Raise unless every list has an entry for each axis, and steps are positive."""
    axes = len(kernel)
    for name, count in (
        ("strides", axes),
        ("dilations", axes),
        ("pads", 2 * axes),
        ("output_padding", axes),
        ("output_shape", axes),
    ):
        value = values.get(name)
        # Some exporters give output_shape with batch and channels in front.
        counts = (count, count + 2) if name == "output_shape" else (count,)
        if isinstance(value, tuple) and value and len(value) not in counts:
            raise ModelError(message(where, f"{count} {name} for the kernel {kernel}", str(list(value))))
        if isinstance(value, tuple) and name in ("strides", "dilations") and min(value, default=1) < 1:
            raise ModelError(message(where, f"{name} of at least 1", str(list(value))))
    if values["kernel_shape"] != kernel:
        raise ModelError(message(where, f"kernel_shape {kernel}, as the weight has it", str(values["kernel_shape"])))
    if values["auto_pad"] not in _AUTO_PADS:
        raise ModelError(message(where, f"auto_pad among {', '.join(_AUTO_PADS)}", repr(values["auto_pad"])))


_MATMUL_DEFAULTS: Mapping[ir.AttributeType, AttributeValue] = {
    ir.AttributeType.INT: 0,
    ir.AttributeType.FLOAT: 1.0,
    ir.AttributeType.STRING: "",
}


def _matmul_defaults(form: DenseForm) -> dict[str, AttributeValue]:
    """MatMul has no attributes; the others' switches are off, and their factors 1."""
    return {name: _MATMUL_DEFAULTS[kind] for name, kind in form.attributes.items()}


def _conv_defaults(form: DenseForm, kernel: tuple[int, ...]) -> dict[str, AttributeValue]:
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    defaults: dict[str, AttributeValue] = {
        "auto_pad": "NOTSET",
        "dilations": ones,
        "group": 1,
        "kernel_shape": kernel,
        "pads": zeros + zeros,
        "strides": ones,
    }
    if form.kind == "conv_transpose":
        defaults |= {"output_padding": zeros, "output_shape": None}
    if "activation" in form.attributes:
        defaults |= {"activation": "", "activation_params": ()}
    return defaults
