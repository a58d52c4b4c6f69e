"""Which options there are, and what they may be."""

import pytest
from sparse_rt_kernels.cpu import isa

from sparse_rt import ConfigError
from sparse_rt.plan import option_rules


def test_each_option_has_one_rule():
    rules = [*option_rules.OWN, *option_rules.PASSED_ON, *option_rules.REFUSED]
    assert len(rules) == len(set(rules))


@pytest.mark.parametrize(
    ("value", "expected"), [(0, True), (-3, True), (True, False), (False, False), (1.0, False), ("1", False)]
)
def test_a_truth_value_is_no_integer(value, expected):
    assert option_rules.is_integer(value) is expected


@pytest.mark.parametrize("value", ["On", "", None, 1, ["on"]])
def test_other_tunings_are_refused_by_the_name_of_the_option(value):
    for known in ("on", "cached", "off", "sparse", "hosted"):
        option_rules.check_tuning("tuning", known)
    with pytest.raises(ConfigError, match="here: "):
        option_rules.check_tuning("here", value)


@pytest.mark.parametrize("value", [3, ["portable"], "no such tier"])
def test_other_tiers_are_refused(value):
    option_rules.check_tier("kernel_tier", None)
    option_rules.check_tier("kernel_tier", isa.supported_tiers(None)[0])
    with pytest.raises(ConfigError):
        option_rules.check_tier("kernel_tier", value)


def test_an_unknown_option_is_named_with_those_that_there_are():
    text = str(option_rules.unknown_option("no_such"))
    assert "'no_such'" in text
    assert all(name in text for name in (*option_rules.OWN, *option_rules.PASSED_ON))
