"""Places in an arena: values that live at the same time do not overlap."""

from hypothesis import given
from hypothesis import strategies as st

from sparse_rt.plan.bind.arena import ArenaPool, Lifetime, place

LIFETIMES = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 12), st.integers(0, 12)).map(
        lambda found: Lifetime(found[0], min(found[1:]), max(found[1:]))
    ),
    max_size=24,
)


@given(LIFETIMES)
def test_values_that_live_at_the_same_time_do_not_overlap(lifetimes):
    offsets, total = place(lifetimes)
    for one, (value, offset) in enumerate(zip(lifetimes, offsets, strict=True)):
        assert offset % 64 == 0
        assert offset + value.nbytes <= total
        for other in range(one):
            rival = lifetimes[other]
            if value.first <= rival.last and rival.first <= value.last:
                assert offset + value.nbytes <= offsets[other] or offsets[other] + rival.nbytes <= offset


@given(LIFETIMES)
def test_the_arena_is_no_larger_than_all_values_together(lifetimes):
    assert place(lifetimes)[1] <= sum(-(-value.nbytes // 64) * 64 for value in lifetimes)


def test_a_chain_needs_two_buffers():
    chain = [Lifetime(640, step, step + 1) for step in range(20)]
    assert place(chain)[1] == 1280


def test_arenas_are_used_again_and_grow():
    pool = ArenaPool()
    first = pool.acquire(100)
    second = pool.acquire(100)
    assert first.address != second.address
    assert first.address % 64 == 0
    pool.release(first)
    assert pool.acquire(50) is first
    pool.release(first)
    assert pool.acquire(1000).memory.size >= 1000
