"""Token ratios, the rule for targets, the plan of runs, the loop over a pool."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from prereq.jobs.config import make_config, read_graph, read_influence

pytest.importorskip("torch")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _benchmarks_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture
def lesson_pool(tmp_path: Path) -> Path:
    """Three skills, as in the tests of the trainer."""
    path = REPOSITORY / "tests" / "jobs" / "train" / "conftest.py"
    spec = importlib.util.spec_from_file_location("lesson_fixtures", path)  # test folders are no packages
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Path(module.write_pool(tmp_path / "pool"))


@pytest.fixture
def training() -> ModuleType:
    return importlib.import_module("pool_training")


@pytest.fixture
def ratios() -> ModuleType:
    return importlib.import_module("token_ratios")


@pytest.fixture
def mixers_dm() -> ModuleType:
    return importlib.import_module("mixers_dm")


def test_falling_is_the_nearest_sequence_that_never_rises(ratios: ModuleType) -> None:
    np.testing.assert_allclose(ratios.falling(np.array([3.0, 1.0, 2.0, 0.5])), [3.0, 1.5, 1.5, 0.5])
    np.testing.assert_allclose(ratios.falling(np.array([1.0, 2.0, 3.0])), [2.0, 2.0, 2.0])
    np.testing.assert_allclose(ratios.falling(np.array([3.0, 2.0, 1.0])), [3.0, 2.0, 1.0])


def test_tokens_to_a_loss_lie_on_the_line_between_evaluations(ratios: ModuleType) -> None:
    curve = ratios.Curve([100, 200, 300], [[4.0, 2.0], [2.0, 2.0], [1.0, 1.0]], ["a", "b"])
    assert ratios.tokens_to(curve, ["a"], 3.0) == 150.0
    assert ratios.tokens_to(curve, ["a"], 1.5) == 250.0
    assert ratios.tokens_to(curve, ["a", "b"], 2.5) == 150.0
    assert ratios.tokens_to(curve, ["a"], 9.0) == 100.0
    assert ratios.tokens_to(curve, ["a"], 0.5) is None
    assert ratios.loss_at(curve, ["a"], 250) == 1.5


def test_ratios_of_a_run_against_uniform(ratios: ModuleType) -> None:
    """Uniform falls on a line to 1 nat; twice as fast needs half of the tokens, what stays above has a bound."""
    tokens = [0, ratios.COMPARED_AT // 2, ratios.COMPARED_AT]
    made = {"uniform": [3.0, 2.0, 1.0], "fast": [3.0, 1.0, 0.5], "stuck": [3.0, 2.0, 2.0]}
    curves = {
        (name, seed): ratios.Curve(tokens, [[loss] for loss in losses], ["a"])
        for name, losses in made.items()
        for seed in (0, 1)
    }
    table = ratios.continual_table(curves)
    assert table["uniform"]["ratio"] == [1.0, 1.0]
    assert table["fast"]["ratio"] == [0.5, 0.5]
    assert table["fast"]["ratio_interval"] == [0.5, 0.5]
    assert table["stuck"]["ratio"] == [None, None]
    assert table["stuck"]["ratio_mean"] == 1.0  # a lower bound: the run ended there
    aims = ratios.target_aims(curves, [0, 1], ["a"])
    assert aims == {(0, "a"): 1.0, (1, "a"): 1.0}
    by_target = {(f"{name}-a", seed): curve for (name, seed), curve in curves.items()}
    table = ratios.target_table(by_target, aims)
    assert table["fast"]["median"] == 0.5
    assert (table["stuck"]["never"], table["stuck"]["range"]) == (2, [1.0, 1.0])


def test_bars_stay_on_their_seeds_where_a_method_ran_on_more(mixers_dm: ModuleType, ratios: ModuleType) -> None:
    tokens = [0, ratios.COMPARED_AT // 2, ratios.COMPARED_AT]
    curves = {("uniform", seed): ratios.Curve(tokens, [[3.0], [2.0], [1.0]], ["a"]) for seed in range(4)}
    fast, slow = [[3.0], [1.0], [0.5]], [[3.0], [2.0], [1.0]]
    curves |= {("ours", seed): ratios.Curve(tokens, slow if seed == 3 else fast, ["a"]) for seed in range(4)}
    curves |= {("other", seed): ratios.Curve(tokens, slow, ["a"]) for seed in range(3)}
    tables = mixers_dm.continual_tables(curves)
    assert tables["continual"]["ours"]["ratio_mean"] == 0.5
    assert tables["continual_all_seeds"]["ours"]["ratio_mean"] == pytest.approx((3 * 0.5 + 1.0) / 4)
    assert set(tables["continual"]) == {"uniform", "ours", "other"}
    assert set(tables["continual_all_seeds"]) == {"uniform", "ours"}


def test_targets_are_evenly_spaced_composed_skills(mixers_dm: ModuleType, tmp_path: Path) -> None:
    edges = tmp_path / "edges.csv"
    names = [f"s{index:02d}" for index in range(9)]
    lines = [f"{name},{name}_composed" for name in reversed(names)]
    edges.write_text("\n".join(["prerequisite,target", "s00,s01", "s01,s03_composed", *lines]) + "\n")
    assert mixers_dm.targets_of(edges) == tuple(f"s{index:02d}_composed" for index in (0, 2, 4, 6, 8))


def test_every_run_of_the_sweeps_can_be_read(mixers_dm: ModuleType, data_dir: Path) -> None:
    plan = mixers_dm.read_plan(data_dir / "dm_mathematics", "pool")
    aimed = {item.target for item in plan if item.target}
    assert aimed == set(mixers_dm.targets_of(data_dir / "dm_mathematics" / "edges.csv"))
    assert {item.seed for item in plan if item.target} == set(mixers_dm.BAR_SEEDS) == {0, 1, 2}
    by_variant = {item.variant: {other.seed for other in plan if other.variant == item.variant} for item in plan}
    assert all(seeds >= {0, 1, 2} for seeds in by_variant.values())
    assert by_variant["uniform"] >= set().union(*by_variant.values())
    assert all(item.config.mixer.parameters.get("targets", [item.target]) == [item.target] for item in plan)
    assert all(item.learned for item in plan if "learned" in item.variant)


def test_missing_data_are_said_in_a_line(
    mixers_dm: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREREQ_DATA", str(tmp_path))
    assert mixers_dm.main(["--out", str(tmp_path / "out")]) == 2
    assert "no dm_mathematics" in capsys.readouterr().err
    assert mixers_dm.dm_row("check")[0] == {}
    assert not (tmp_path / "out").exists()


def test_a_run_in_one_process_learns_repeats_itself_and_stops_when_told(
    training: ModuleType, lesson_pool: Path, tmp_path: Path
) -> None:
    lab = training.Lab(str(lesson_pool))
    (tmp_path / "edges.csv").write_text("prerequisite,target\nadd,count\ncount,spell\n")
    settings = {
        "run_dir": "r",
        "pool_dir": str(lesson_pool),
        "sources": [{"name": "a", "paths": ["x"]}],
        "graph": {"edges": str(tmp_path / "edges.csv")},
        "mixer": {"name": "skill_it", "parameters": {"learning_rate": 0.3, "base": "uniform"}},
        "tokens": 6000,
        "batches_per_round": 2,
        "global_batch": 8,
        "train": {"layers": 1, "width": 16, "heads": 2, "seq_len": 32, "windows_per_step": 2, "threads": 1},
    }
    config = make_config(settings, "test")
    influence = read_influence(config.mixer.influence, read_graph(config.graph))
    skills = lab.arms.skills
    runs = [lab.run(config, influence, reported=skills, report_tokens=60, watched=skills) for _ in range(2)]
    assert (runs[0].tokens, runs[0].losses, runs[0].mixture) == (runs[1].tokens, runs[1].losses, runs[1].mixture)
    assert runs[0].tokens[-1] >= 6000 > runs[0].tokens[-2]
    means = runs[0].of(skills)
    assert means[-1] < means[0] - 0.1
    assert sum(runs[0].mixture.values()) == pytest.approx(1.0)
    early = lab.run(
        config,
        influence,
        reported=["add"],
        report_tokens=60,
        watched=skills,
        enough=lambda curve: curve.losses[-1][0] <= runs[0].losses[1][0],
    )
    assert early.tokens == runs[0].tokens[:2]
    assert early.of(["add"]).tolist() == runs[0].of(["add"])[:2].tolist()


@pytest.mark.parametrize("name", ["doge", "pike", "doremi", "quad", "aioli"])
def test_a_mixer_that_needs_more_than_losses_gets_the_trainers_signals(
    training: ModuleType, lesson_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lab = training.Lab(str(lesson_pool))
    (tmp_path / "edges.csv").write_text("prerequisite,target\nadd,count\n")
    settings = {
        "run_dir": "r",
        "pool_dir": str(lesson_pool),
        "sources": [{"name": "a", "paths": ["x"]}],
        "graph": {"edges": str(tmp_path / "edges.csv")},
        "mixer": {"name": name, "parameters": {"base": "uniform"} | ({"clusters": 2} if name == "quad" else {})},
        "tokens": 3000,
        "batches_per_round": 2,
        "global_batch": 8,
        "train": {"layers": 1, "width": 16, "heads": 2, "seq_len": 32, "windows_per_step": 2, "threads": 1},
    }
    seen = []
    measure = training.Signals.measure

    def noted(self: object, model: object, number: int) -> object:
        seen.append(measure(self, model, number))
        return seen[-1]

    monkeypatch.setattr(training.Signals, "measure", noted)
    skills = lab.arms.skills
    curve = lab.run(make_config(settings, "test"), None, reported=skills, report_tokens=60, watched=skills)
    assert curve.tokens[-1] >= 3000
    # after every round but the last, every signal that the mixer names, with a number for each arm that was drawn
    wanted = set(training.make_mixer(name, settings["mixer"]["parameters"], lab.arms, None).required_signals)
    assert len(seen) >= 2
    assert all(set(each.signals) == wanted and wanted for each in seen)
    assert all(values for each in seen for values in each.signals.values())
    monkeypatch.setattr(training.Signals, "measure", lambda self, model, number: self.untrained())
    blind = lab.run(make_config(settings, "test"), None, reported=skills, report_tokens=60, watched=skills)
    assert (blind.tokens, blind.losses) != (curve.tokens, curve.losses)  # what was measured moved the mixture


def test_check_says_that_nothing_is_stored_and_that_other_data_are_other_data(
    mixers_dm: ModuleType, tmp_path: Path
) -> None:
    data = tmp_path / "dm_mathematics"
    data.mkdir()
    (data / "documents.jsonl.gz").write_bytes(b"a")
    (data / "edges.csv").write_text("prerequisite,target\n")
    values, details = mixers_dm.check(data, str(tmp_path / "pool"), stored=tmp_path / "nothing")
    assert values == {}
    assert "has no results" in mixers_dm.compare("dm", details["comparable"], tmp_path / "nothing")["why"]
    before = mixers_dm.inputs_digest(data)
    (data / "documents.jsonl.gz").write_bytes(b"b")
    assert mixers_dm.inputs_digest(data) != before


def test_journal_gives_back_the_runs_of_an_earlier_call(
    mixers_dm: ModuleType, ratios: ModuleType, tmp_path: Path
) -> None:
    curve = ratios.Curve([10, 20], [[2.0], [1.0]], ["a"], 0.5, {"a": 1.0})
    mixers_dm.Journal(tmp_path / "j.jsonl").add("key", curve)
    again = mixers_dm.Journal(tmp_path / "j.jsonl")
    assert again.get("key") == curve
    assert again.get("other") is None
    assert mixers_dm.Journal(None).get("key") is None
