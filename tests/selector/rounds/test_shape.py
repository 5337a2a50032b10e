"""Shapes of JSON from files: what fits, and what the first misfit is called."""

import pytest

from prereq.selector.rounds.shape import misfit

SPEC = {"name": str, "count": (int, None), "weights": {str: float}, "draws": [{"epoch": int}], "any": dict}
GOOD = {"name": "a", "count": None, "weights": {"x": 1, "y": 0.5}, "draws": [{"epoch": 0}], "any": {"z": []}, "more": 1}


def test_what_fits_has_no_fault():
    assert misfit(GOOD, SPEC) is None
    assert misfit({**GOOD, "count": 3, "weights": {}, "draws": []}, SPEC) is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": 1}, "name is 1, expected text"),
        ({"count": True}, "count is True, expected a whole number or null"),
        ({"count": 0.5}, "count is 0.5, expected a whole number or null"),
        ({"weights": {"x": "1"}}, "weights.x is '1', expected a number"),
        ({"weights": []}, r"weights is [], expected an object"),
        ({"draws": {}}, "draws is {}, expected a list"),
        ({"draws": [{"epoch": 1}, {}]}, "draws.1.epoch is missing"),
        ({"any": None}, "any is None, expected an object"),
    ],
)
def test_the_first_misfit_is_named_with_its_path(change, fault):
    assert misfit({**GOOD, **change}, SPEC) == fault


def test_a_missing_key_and_a_wrong_whole_are_named():
    assert misfit({"name": "a"}, SPEC) == "count is missing"
    assert misfit(["x" * 99], {"a": int}) == "it is " + repr(["x" * 99])[:37] + "..., expected an object"
