"""Prepared calls are kept by their shapes, and not without bound."""

from sparse_rt.plan.steps.calls import Calls


def test_calls_are_found_again_and_all_go_when_there_are_too_many():
    calls = Calls()
    assert [calls.keep((1, size), f"call of {size}") for size in range(64)][3] == "call of 3"
    assert len(calls) == 64
    assert calls.get((1, 3)) == "call of 3"
    assert calls.keep((2, 3), "another") == "another"
    assert dict(calls) == {(2, 3): "another"}
