"""When values are spent: after the last step that reads them."""

from types import SimpleNamespace

from sparse_rt.plan.steps.step import can_be_bound, spent


def step(inputs, outputs):
    return SimpleNamespace(inputs=tuple(inputs), outputs=tuple(outputs))


def test_a_value_goes_after_its_last_reader_and_feeds_stay():
    steps = [step("x", "a"), step("xa", "b"), step("ab", "cd"), step("c", "e")]
    # d is read by nobody; x is a feed.
    assert [set(names) for names in spent(steps)] == [set(), set(), {"a", "b", "d"}, {"c", "e"}]


def test_what_lacks_a_part_of_the_protocol_cannot_be_bound():
    assert not can_be_bound(step("x", "y"))
