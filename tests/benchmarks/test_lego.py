"""LEGO: texts against brute force, the split, the model's blindness to order, the loop with the project's mixers."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from prereq.selector.mixers import Arms, make_mixer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
METHODS = ("random", "stratified", "skill_it", "skill_it_learned", "skill_bandit")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_only_truth_that_fits_all_clauses_gives_the_answer_and_the_skill_is_the_place_in_the_chain():
    from lego_data import make, text

    skills = np.tile(np.arange(5), 60)
    examples = make(np.random.default_rng(3), skills)
    orders = set()
    for index, skill in enumerate(skills):
        said = re.fullmatch(r"Input: (.*) \. Output: (\w) = val ([01]) ,", text(examples, index))
        assert said is not None
        clauses = [re.fullmatch(r"(\w) = (val|not) (\w)", part).groups() for part in said[1].split(" . ")]
        names = [name for name, _, _ in clauses]
        assert len(set(names)) == 5
        fitting = [
            truth
            for values in product((0, 1), repeat=5)
            for truth in [dict(zip(names, values, strict=True))]
            if all(
                truth[name] == (int(ref) if ref in "01" else truth[ref] if word == "val" else 1 - truth[ref])
                for name, word, ref in clauses
            )
        ]
        assert len(fitting) == 1
        assert fitting[0][said[2]] == int(said[3])
        parent, place = {name: ref for name, _, ref in clauses}, 0
        name = said[2]
        while parent[name] not in "01":
            name, place = parent[name], place + 1
        assert place == skill
        chain = sorted(names, key=lambda n: _depth(n, parent))
        orders.add(tuple(names.index(n) for n in chain))
    assert len(orders) > 80  # of 120: the clauses are shuffled
    assert 0.4 < examples.answers.mean() < 0.6


def _depth(name: str, parent: dict[str, str]) -> int:
    return 0 if parent[name] in "01" else 1 + _depth(parent[name], parent)


@pytest.mark.parametrize(
    ("shares", "n", "counts"),
    [
        ([1 / 11, 1 / 11, 1 / 11, 3 / 11, 5 / 11], 100, [9, 9, 9, 27, 46]),
        ([1 / 3, 1 / 3, 1 / 3], 3, [1, 1, 1]),
        ([0.2] * 5, 7, [1, 1, 1, 1, 3]),
        ([0, 0, 1], 10, [0, 0, 10]),
    ],
)
def test_a_split_takes_the_floor_and_the_last_skill_what_is_left(shares: list[float], n: int, counts: list[int]):
    from lego_data import split

    assert split(shares, n).tolist() == counts


def test_no_text_comes_twice_nor_one_that_is_taken(monkeypatch: pytest.MonkeyPatch):
    import lego_data

    skills = np.full(40, 2)
    first, taken = lego_data.make_distinct(np.random.default_rng(0), skills, np.zeros(0, dtype=np.int64))
    assert len({lego_data.text(first, index) for index in range(40)}) == len(set(taken.tolist())) == 40
    # a generator that begins by repeating the first set, and itself
    rng, made = np.random.default_rng(1), []

    def repeating(_: np.random.Generator, skills: np.ndarray) -> lego_data.Examples:
        made.append(len(skills))
        fresh = genuine(rng, skills)
        if len(made) == 1:
            fresh.clauses[:3], fresh.asked[:3], fresh.answers[:3] = (
                first.clauses[:3],
                first.asked[:3],
                first.answers[:3],
            )
            fresh.clauses[4], fresh.asked[4], fresh.answers[4] = fresh.clauses[5], fresh.asked[5], fresh.answers[5]
        return fresh

    genuine = lego_data.make
    monkeypatch.setattr(lego_data, "make", repeating)
    second, every = lego_data.make_distinct(rng, skills, taken)
    assert made == [40, 4]
    assert len(set(every.tolist())) == 80
    assert np.array_equal(every[40:], second.keys)


def test_the_model_reads_a_set_of_clauses_and_accuracy_counts_right_answers():
    import torch
    from lego_data import make
    from lego_model import ClauseTransformer, ModelConfig
    from lego_runs import as_batch, judge

    clauses, asked, _ = as_batch(make(np.random.default_rng(0), np.arange(5)))
    model = ClauseTransformer(ModelConfig(width=16, heads=2, expansion=2, loops=3), 0)
    flipped = model(clauses.flip(1), asked)
    torch.testing.assert_close(model(clauses, asked), flipped)
    again = ClauseTransformer(ModelConfig(width=16, heads=2, expansion=2, loops=3), 0)
    assert torch.equal(again(clauses, asked), model(clauses, asked))

    class Says(torch.nn.Module):
        def forward(self, clauses: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.0, 1.0]]).expand(len(asked), 2)

    accuracies, losses = judge(Says(), [(clauses, asked, torch.tensor([1, 1, 1, 0, 0]))])
    assert accuracies == [0.6]
    assert losses == pytest.approx([np.log(1 + np.e) - 0.6])


def test_the_first_mixtures_are_the_published_ones():
    from lego import declared_influence, settings

    arms, methods = Arms.of_skills(declared_influence().train), settings()["methods"]

    def first(method: str) -> list[float]:
        entry = methods[method]
        mixer = make_mixer(entry["mixer"], entry["parameters"], arms, declared_influence())
        return mixer.mixture(mixer.init()).tolist()

    assert first("skill_it") == pytest.approx([0.16348, 0.34608, 0.16348, 0.16348, 0.16348], abs=5e-6)
    assert first("random") == pytest.approx([1 / 11, 1 / 11, 1 / 11, 3 / 11, 5 / 11])
    assert first("stratified") == pytest.approx([0.2] * 5)
    assert len(methods) == 7


@pytest.mark.parametrize("method", ["aioli", "skill_bandit"])
def test_a_run_is_the_same_twice_and_the_mixer_sees_the_control_set_alone(method: str, monkeypatch: pytest.MonkeyPatch):
    import lego
    from lego_data import SKILLS
    from lego_model import ModelConfig
    from lego_runs import Schedule, Trainer, held_out, train_in_rounds

    schedule = Schedule(
        rounds=3, steps=2, batch=16, learning_rate=0.01, warmup=2, weight_decay=0.01, clip=1.0, look_every=2,
        probe_steps=1, short_run_steps=2,
    )  # fmt: skip
    entry, arms = lego.settings()["methods"][method], Arms.of_skills(SKILLS)
    mixer = make_mixer(entry["mixer"], entry["parameters"], arms, lego.declared_influence())
    size = ModelConfig(width=8, heads=2, expansion=2, loops=2)

    def run(report: int) -> tuple:
        held, lines = held_out(20, report, 42), []
        curve = train_in_rounds(Trainer(size, schedule, 1), mixer, arms, held, 1, lines.append)
        assert len(lines) == 3
        return curve.steps, curve.mixtures, curve.control_losses, curve.accuracies

    first = run(30)
    assert first == run(30)
    other = run(7)  # another report set, the same control set
    assert other[1:3] == first[1:3]
    assert other[3] != first[3]
    assert first[0] == [2, 4, 6]
    assert len(first[1]) == 3
    assert first[1][2] != first[1][0]


def test_differences_are_paired_by_seed_and_the_step_of_90_is_stratifieds():
    from lego import paired, summarise
    from lego_runs import Curve

    found = paired([3.0, 5.0, 7.0], [1.0, 4.0, 4.0])
    assert found["mean"] == 2.0
    assert found["interval"] == pytest.approx([2.0 - 4.302652729911275 / 3**0.5, 2.0 + 4.302652729911275 / 3**0.5])
    assert paired([1.0], [0.0])["interval"] is None

    def curve(*levels: float) -> Curve:
        return Curve(steps=[20, 40, 60], accuracies=[[level, level] for level in levels])

    curves = {("stratified", 0): curve(0.5, 0.9, 1.0), ("other", 0): curve(0.5, 0.6, 0.7)}
    told = summarise(curves, ["stratified", "other"], [0])
    assert told["stratified_reaches_90_at"] == [40]
    assert told["at_90"]["other"]["accuracy"] == pytest.approx(60.0)
    assert told["at_the_end"]["other"]["minus"]["stratified"]["mean"] == pytest.approx(-30.0)
    assert told["first_step_at_90"] == {"stratified": [40], "other": [None]}


def test_the_full_row_keeps_every_run_and_the_check_repeats_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import lego

    small = lego.settings() | {
        "seeds": [0, 1],
        "held_out": {"control": 5, "report": 5, "seed": 42},
        "model": {"width": 8, "heads": 1, "expansion": 1, "loops": 1},
        "methods": {name: lego.settings()["methods"][name] for name in METHODS},
    }
    small["schedule"] = small["schedule"] | {
        "rounds": 2,
        "steps": 1,
        "batch": 10,
        "look_every": 1,
        "short_run_steps": 1,
    }
    monkeypatch.setattr(lego, "settings", lambda: small)
    tmp_path = tmp_path / "new"
    monkeypatch.setenv("LEGO_RUNS", str(tmp_path))
    values, full = lego.lego_row("full")
    assert set(values) == {"lego_skillit_minus_random", "lego_bandit_minus_skillit"}
    assert [(run["method"], run["seed"]) for run in full["runs"]] == [(m, s) for s in (0, 1) for m in METHODS]
    assert np.shape(full["learned"]) == (5, 5)
    accuracy = {name: row["accuracy"] for name, row in full["summary"]["at_the_end"].items()}
    assert values["lego_skillit_minus_random"] == pytest.approx(accuracy["skill_it"] - accuracy["random"])
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 11  # 10 runs and the learned graph
    assert lego.lego_row("full")[1] == full
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
    monkeypatch.delenv("LEGO_RUNS")
    values, check = lego.lego_row("check")
    assert values == {}
    assert check["comparable"] == full["comparable"]
    (run,) = check["runs"]
    assert run in full["runs"]
