"""Known answers of the addition texts, the mixers that the experiment compares, and how steps saved are counted."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def addition(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import mixers_addition

    return mixers_addition


def words(addition: ModuleType, texts: np.ndarray) -> list[str]:
    return [" ".join(addition.WORDS[code] for code in text) for text in texts]


def test_the_papers_example_and_its_other_digits(addition: ModuleType):
    first, second = np.full(3, 106), np.full(3, 71)
    assert words(addition, addition.questions(first, second, np.arange(3))) == [
        "Input: A = 1 0 6 + 0 7 1 , A 0 = ? Output: 7",
        "Input: A = 1 0 6 + 0 7 1 , A 1 = ? Output: 7",
        "Input: A = 1 0 6 + 0 7 1 , A 2 = ? Output: 1",
    ]


def test_carries_reach_the_next_digit_and_the_last_one_is_dropped(addition: ModuleType):
    texts = addition.questions(np.array([998, 998, 998, 5]), np.array([998, 7, 2, 5]), np.array([2, 1, 2, 1]))
    assert [line.split()[-1] for line in words(addition, texts)] == ["9", "0", "0", "1"]


def test_other_signs_ask_for_an_operands_digit(addition: ModuleType):
    first, second = np.array([123]), np.array([456])
    digits = [
        int(words(addition, addition.questions(first, second, np.array([d]), sign))[0][-1])
        for sign in "<>"
        for d in (0, 1, 2)
    ]
    assert digits == [3, 2, 1, 6, 5, 4]


def test_every_answer_is_that_of_python_and_operands_are_those_of_the_released_code(addition: ModuleType):
    digits = np.random.default_rng(0).integers(0, 3, 20_000)
    lines = words(addition, addition.random_questions(digits, np.random.default_rng(1)))
    operands = set()
    for line, digit in zip(lines, digits, strict=True):
        parts = line.split()
        first, second = int("".join(parts[3:6])), int("".join(parts[7:10]))
        operands |= {first, second}
        assert parts[12] == str(digit)
        assert parts[16] == f"{first + second:04d}"[3 - digit]
    assert operands == set(range(999)), "0 to 998, and 999 never"


def test_what_cannot_be_written_is_refused(addition: ModuleType):
    one = np.array([1])
    for first, digit, sign in ((np.array([1000]), 0, "+"), (np.array([-1]), 0, "+"), (one, 3, "+"), (one, 0, "*")):
        with pytest.raises(ValueError, match=r"0 to 999|expected one of"):
            addition.questions(first, one, np.array([digit]), sign)


def test_skill_it_has_the_papers_graph_and_only_target_only_draws_nothing_else(addition: ModuleType):
    from prereq.selector.mixers import Arms, Observation

    config = yaml.safe_load(addition.CONFIG.read_text())
    setting = config["settings"]["ones_after_tens"]
    arms = Arms.of_skills(("ones", "tens"))
    mixture = {}
    for method in addition.METHODS:
        mixer = addition.make(method, setting, config, arms)
        mixture[method] = mixer.mixture(mixer.init())
        if method == "skill_it":
            state = mixer.update(mixer.init(), Observation(round=None, losses={"ones": 2.0}))
            later = mixer.mixture(state)
    np.testing.assert_allclose(mixture["target_only"], [1, 0])
    np.testing.assert_allclose(mixture["stratified"], [0.5, 0.5])
    # exp(.1 * [1, .5]) at first, exp(.1 * [1, .5] * 2) after a loss of 2
    np.testing.assert_allclose(mixture["skill_it"][0], 1 / (1 + np.exp(-0.05)), rtol=1e-12)
    np.testing.assert_allclose(later[0], 1 / (1 + np.exp(-0.1)), rtol=1e-12)


def test_the_bars_setting_is_run_with_every_method_and_each_setting_with_its_baseline(addition: ModuleType):
    config = yaml.safe_load(addition.CONFIG.read_text())
    setting, method = addition.BAR
    assert addition.methods(config, setting) == addition.METHODS
    assert method in addition.METHODS
    for name in config["settings"]:
        assert {"target_only", "skill_it"} <= set(addition.methods(config, name)) <= set(addition.METHODS)


def test_steps_saved_are_paired_and_an_unfinished_run_counts_with_its_budget(addition: ModuleType):
    base = [{"steps": 100, "budget": 1000}, {"steps": 200, "budget": 1000}]
    found = addition.saved([{"steps": 50, "budget": 1000}, {"steps": None, "budget": 1000}], base)
    assert found["by_seed"] == [0.5, -4.0]
    assert found["mean"] == -1.75
    assert found["unfinished"] == 1
    # mean -+ t(1) * sd / sqrt 2, sd = 4.5 / sqrt 2
    np.testing.assert_allclose(
        found["interval_95"], [-1.75 - 12.706204736174694 * 2.25, -1.75 + 12.706204736174694 * 2.25], rtol=1e-12
    )


def test_a_run_repeats_bit_for_bit_and_learns_what_a_small_model_can(addition: ModuleType):
    config = yaml.safe_load(addition.CONFIG.read_text())
    config["model"] |= {"width": 16, "heads": 2}
    config["schedule"] |= {"rounds": 2, "steps": 4, "batch": 8, "evaluate_every": 2}
    config |= {"validation": 20, "threshold": 1.0}
    config["retrieval"]["steps"] = 5
    once, again, other = (addition.run(config, "tens_after_ones", "skill_it", seed) for seed in (3, 3, 4))
    assert once["losses"] == again["losses"] != other["losses"]
    assert once["steps"] is None
    assert once["evaluated_at"] == [0, 2, 4, 6, 8]
    assert len(once["mixtures"]) == 2
    started = addition.run(config, "ones_after_tens_retrieval", "target_only", 3)
    assert started["mixtures"] == [{"ones": 1.0, "tens": 0.0}] * 2
    same = addition.run(config, "ones_after_tens_retrieval", "target_only", 4)
    assert started["losses"]["ones"][0] == same["losses"]["ones"][0], "one start for every seed"
    config["threshold"] = 10.0
    assert addition.run(config, "tens_after_ones", "skill_it", 3)["steps"] == 0
