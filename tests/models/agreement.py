"""How near a session must come to stock onnxruntime, end to end and step by step."""

import numpy as np

from sparse_rt.stock import open_session
from tests.models.onnx_models import stock


def assert_near(found, reference, tolerance, what=""):
    assert found.dtype == reference.dtype
    assert found.shape == reference.shape
    if reference.dtype.kind == "f":
        bound = tolerance * max(1.0, float(np.abs(reference).max(initial=0)))
        np.testing.assert_allclose(found, reference, rtol=tolerance, atol=bound, err_msg=what)
    else:
        np.testing.assert_array_equal(found, reference, err_msg=what)


def agree_end_to_end(session, proto, feeds, form):
    """Floats up to the order of their sums; quantised ones differ by few steps, where a byte fell the other way."""
    for y, reference in zip(session.run(None, feeds), stock(proto, feeds), strict=True):
        if form == "float32":
            assert_near(y, reference, 2e-5)
            continue
        assert y.shape == reference.shape
        a, b = y.ravel().astype(np.float64), reference.ravel().astype(np.float64)
        assert a @ b >= 0.999 * np.sqrt((a @ a) * (b @ b))


def agree_step_by_step(session, proto, feeds):
    """Every step of ours, given what the reference computed before it, writes what the reference has after it.

    The reference is onnxruntime without optimisation: with it, inner values are rounded to bytes that later nodes
    quantise to. Bytes may be one step apart: our operators round once where separate ones round several times.
    """
    steps = [step for step in session.plan.kernel_steps if hasattr(step, "y")]
    written = {name for one in proto.graph.node for name in one.output}
    names = sorted({name for step in steps for name in (*step.inputs, step.y)} & written)
    values = {**session.plan.constants, **feeds}
    if names:
        reference = open_session(proto, extra_outputs=names, optimise=False)
        values |= dict(zip(names, reference.run(names, feeds), strict=True))
    for step in steps:
        # A copy of a DequantizeLinear that the plan made has no name in the reference.
        if not all(name in values for name in (*step.inputs, step.y)):
            continue
        found = {name: values[name] for name in step.inputs}
        step.run(found, session.pool)
        y, reference = found[step.y], values[step.y]
        if reference.dtype.kind == "f":
            assert_near(y, reference, 5e-6, step.describe())
        else:
            assert y.dtype == reference.dtype
            assert y.shape == reference.shape
            assert np.abs(y.astype(int) - reference.astype(int)).max(initial=0) <= 1, step.describe()
