"""Charts: well-formed, escaped, to scale, and never larger than a screen needs."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prereq.jobs import charts

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert(1)</script>\"'&\x00"


def parse(drawing: str) -> ElementTree.Element:
    root = ElementTree.fromstring(drawing)
    assert root.tag == f"{SVG}svg"
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg",
        "path",
        "rect",
        "circle",
        "text",
        "title",
    }
    return root


def test_stack_is_to_scale() -> None:
    root = parse(charts.stacked([0, 1], {"a": [0.5, 0.25], "b": [0.25, 0.25]}, "rest"))
    bars = {
        (bar[0].text or ""): float(bar.attrib["height"]) for bar in root.iter(f"{SVG}rect") if len(bar) and bar[0].text
    }
    full = bars["round 0: a 50.0%"] * 2
    assert bars["round 1: a 25.0%"] == pytest.approx(full / 4, abs=0.2)
    assert bars["round 0: rest 25.0%"] == pytest.approx(full / 4, abs=0.2)
    assert bars["round 1: rest 50.0%"] == pytest.approx(full / 2, abs=0.2)


def test_stack_of_small_shares_ends_its_scale_above_them() -> None:
    root = parse(charts.stacked([0], {"a": [0.02], "b": [0.06]}, "the others"))
    heights = [float(bar.attrib["height"]) for bar in root.iter(f"{SVG}rect") if len(bar)]
    assert len(heights) == 2
    assert sum(heights) > 150
    assert "the others" not in "".join(root.itertext())


def test_every_chart_escapes_names() -> None:
    points = [(0.0, 1.0), (1.0, 0.5)]
    for drawing in (
        charts.stacked([0, 1], {HOSTILE: [0.5, 0.4]}, HOSTILE),
        charts.lines({HOSTILE: points, "b": points}, {HOSTILE: "bad"}, y_name=HOSTILE, mean=points),
        charts.ratios([0, 1], {HOSTILE: [1.0, None]}),
        charts.pairs({HOSTILE: (points, points, 0.1)}, (HOSTILE, "b", "c")),
    ):
        parse(drawing)
        assert "<script" not in drawing


@pytest.mark.parametrize("count", [1, 2, 3, 7, 120])
def test_charts_work_from_one_round_on(count: int) -> None:
    rounds = list(range(count))
    points = [(float(r), 2.0) for r in rounds]
    assert len(parse(charts.stacked(rounds, {"a": [0.5] * count}, ""))) > 0
    assert len(parse(charts.lines({"a": points}, {}, y_name="loss"))) > 0
    assert len(parse(charts.ratios(rounds, {"a": [0.0] * count, "b": [2.0] * count}))) > 0
    assert len(parse(charts.pairs({"a": (points, points, None)}, ("x", "y", "z")))) > 0


def test_labels_of_rounds_do_not_touch() -> None:
    rounds = [-1, *range(3000)]
    root = parse(charts.lines({"a": [(float(r), 1.0 + r) for r in rounds]}, {}, y_name="loss"))
    bottom = max(float(label.attrib["y"]) for label in root.iter(f"{SVG}text")) - 15
    places = [float(label.attrib["x"]) for label in root.iter(f"{SVG}text") if float(label.attrib["y"]) == bottom]
    assert len(places) > 4
    assert min(b - a for a, b in pairwise(places)) >= 40


@given(st.integers(0, 5000), st.integers(2, 300))
def test_thin_keeps_both_ends_and_the_order(count: int, most: int) -> None:
    kept = charts.thin(count, most)
    assert len(kept) == min(count, most)
    assert kept == sorted(set(kept))
    if count:
        assert (kept[0], kept[-1]) == (0, count - 1)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_lie_around_the_range_and_are_few(low: float, span: float) -> None:
    ticks = charts._ticks(low, low + span)
    assert ticks[0] <= low + 1e-6
    assert ticks[-1] >= low + span - 1e-6
    assert 2 <= len(ticks) <= 9


@given(st.lists(st.floats(0, 300), min_size=1, max_size=8).map(sorted))
def test_labels_move_apart_and_keep_their_middle(places: list[float]) -> None:
    moved = charts._apart(places, 16.0)
    assert all(b - a >= 16.0 - 1e-9 for a, b in pairwise(moved))
    assert sum(moved) == pytest.approx(sum(places))
