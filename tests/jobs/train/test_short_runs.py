"""Influence from short runs: which way the table lies, what a row is, the same bytes again, stopping and going on."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.graph.influence import load_influence
from prereq.jobs.cli import main
from prereq.jobs.config import load_config
from prereq.jobs.learn import _binding
from prereq.jobs.train import short_runs
from prereq.jobs.train.config import LearnConfig, TrainConfig
from prereq.jobs.train.evaluate import Evaluation, evaluate, prepare
from prereq.jobs.train.model import ByteTransformer, make_optimizer
from prereq.jobs.train.pool_rounds import PoolRounds
from prereq.jobs.train.short_runs import LearnedFrom, ShortRuns, as_influence, drops, learn_rows
from prereq.jobs.train.update import update
from prereq.jobs.train.windows import training_windows
from prereq.selector.feed import HoldoutDocument
from prereq.selector.mixers import Arms, make_mixer
from prereq.selector.rounds.pool import Pool, read_holdout

LEARN = LearnConfig(start_tokens=500, steps=3)


@pytest.fixture
def source(lesson_pool: Path, tiny: TrainConfig) -> LearnedFrom:
    pool = Pool(str(lesson_pool))
    return LearnedFrom(pool=pool, arms=pool.arms(), train=replace(tiny, eval_tokens_per_skill=60), learn=LEARN, seed=3)


@pytest.fixture
def config_file(tmp_path: Path, lesson_pool: Path) -> Path:
    path = tmp_path / "c.yaml"
    (tmp_path / "edges.csv").write_text("prerequisite,target\nadd,count\ncount,spell\n")
    path.write_text(
        f"run_dir: r\npool_dir: {lesson_pool}\nrounds: 1\nseed: 3\nsources: [{{name: a, paths: [x]}}]\n"
        f"graph: {{edges: {tmp_path / 'edges.csv'}}}\n"
        "train: {layers: 1, width: 16, heads: 2, seq_len: 32, windows_per_step: 2, threads: 1, "
        "eval_tokens_per_skill: 60}\nlearn: {start_tokens: 500, steps: 3}\n"
    )
    return path


def learn(config: Path, out: Path, *more: str) -> int:
    return main(["graph", "learn", str(config), "--out", str(out), *more])


def test_rows_are_what_was_trained_on(source: LearnedFrom) -> None:
    """From drops that are known to Skill-It's first mixture in closed form: p_i ~ exp(eta * sum_j A_ij)."""
    rows = {"add": [0.5, 0.1, 0.0], "count": [-0.2, 0.4, 0.3], "spell": [0.0, 0.0, 0.7]}
    drops = {skill: dict(zip(("add", "count", "spell"), values, strict=True)) for skill, values in rows.items()}
    influence = as_influence(source, drops)
    assert influence.matrix.tolist() == list(rows.values())
    arms = Arms.of_skills(["add", "count", "spell"])
    mixer = make_mixer("skill_it", {"learning_rate": 2.0, "base": "uniform"}, arms, influence)
    expected = np.exp(2.0 * np.array([0.6, 0.5, 0.7]))
    np.testing.assert_allclose(mixer.mixture(mixer.init()), expected / expected.sum(), rtol=1e-12)


@pytest.mark.parametrize("relative", [False, True])
def test_known_answer_of_the_approximate_method(
    source: LearnedFrom, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    """From losses before and after to the matrix, and clipped to a mixture: losses of 3, and of three short runs."""
    losses = iter([[3.0, 3.0, 3.0], [1.0, 2.5, 3.2], [2.0, 1.5, 2.9], [3.0, 3.0, 2.0]])
    skills = ("add", "count", "spell")
    monkeypatch.setattr(
        short_runs,
        "evaluate",
        lambda *_: Evaluation(dict(zip(skills, next(losses), strict=True)), dict.fromkeys(skills, 1)),
    )
    source = replace(source, learn=replace(LEARN, start_tokens=0, steps=1, relative=relative))
    influence = as_influence(source, learn_rows(source, {}, lambda _: None, lambda _: None))
    assert influence.train == influence.eval == skills
    unit = 3.0 if relative else 1.0
    clipped = np.array([[2.0, 0.5, 0.0], [1.0, 1.5, 0.1], [0.0, 0.0, 1.0]]) / unit
    np.testing.assert_allclose(np.maximum(influence.matrix, 0.0), clipped, atol=1e-6)
    assert influence.matrix[0, 2] == pytest.approx(-0.2 / unit, abs=1e-6), "kept: it is the mixer that clips"
    parameters = {"learning_rate": 1.0, "base": "uniform", "negatives": "clip"}
    mixer = make_mixer("skill_it", parameters, Arms.of_skills(skills), influence)
    weights = np.exp(np.array([2.5, 2.6, 1.0]) / unit)
    np.testing.assert_allclose(mixer.mixture(mixer.init()), weights / weights.sum(), atol=1e-6)


def test_drops_without_a_loss_on_both_sides_are_left_out() -> None:
    before, after = {"a": 3.0, "b": None, "c": 2.0, "d": 0.0}, {"a": 4.0, "b": 1.0, "c": None, "d": 0.5, "e": 1.0}
    assert drops(before, after, relative=False) == {"a": -1.0, "d": -0.5}
    assert drops(before, after, relative=True) == {"a": -0.333333}, "a loss of 0 has no share"


def test_journal_of_a_version_without_relative_goes_on(config_file: Path) -> None:
    learn = load_config(str(config_file)).learn
    assert _binding(learn) == {"start_tokens": 500, "steps": 3, "own_share": 1.0}
    assert _binding(replace(learn, relative=True)) == _binding(learn) | {"relative": True}


def test_row_is_the_drop_that_a_plain_loop_brings(source: LearnedFrom) -> None:
    """The same row by a loop written out: start on all skills, copy, a few steps on one skill, before minus after."""
    train, arms, pool = source.train, source.arms, source.pool
    held = [
        HoldoutDocument(row["id"], row["text"], tuple(row["skills"]))
        for row in read_holdout(pool.folder, "control").to_pylist()
    ]
    control = prepare(held, arms.skills, train.seq_len, train.eval_tokens_per_skill)
    rounds = PoolRounds(pool, arms, 3, documents=16, batch=16, max_epochs=9)
    model = ByteTransformer(train)
    optimizer = make_optimizer(model, train)

    def train_on(net: ByteTransformer, opt: object, mixture: list[float], steps: int, done: int) -> None:
        windows: list[tuple[np.ndarray, np.ndarray]] = []
        while len(windows) < 2 * steps:
            cut = training_windows(rounds.draw(np.array(mixture))[0], 32)
            windows += list(zip(cut.inputs[:-1], cut.targets[:-1], strict=True))
        for step in range(steps):
            pair = windows[2 * step : 2 * step + 2]
            sides = [short_runs.torch.from_numpy(np.stack(side)) for side in zip(*pair, strict=True)]
            update(net, opt, sides[0], sides[1], train, done + step)  # type: ignore[arg-type]

    train_on(model, optimizer, [1 / 3] * 3, 8, 0)  # 500 tokens are 8 steps of 2 windows of 32
    before = evaluate(model, control, train.eval_windows).losses
    trial = copy.deepcopy(model)
    other = make_optimizer(trial, train)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train_on(trial, other, [0.0, 1.0, 0.0], 3, 8)
    after = evaluate(trial, control, train.eval_windows).losses
    expected = {skill: round((before[skill] or 0) - (after[skill] or 0), 6) for skill in arms.skills}
    assert ShortRuns(source).row("count") == expected


def test_a_skill_gains_most_from_its_own_documents(source: LearnedFrom) -> None:
    runs = ShortRuns(replace(source, learn=replace(LEARN, start_tokens=2000, steps=12)))
    rows = {skill: runs.row(skill) for skill in source.skills}
    matrix = as_influence(source, rows).matrix
    assert (matrix.argmax(axis=0) == np.arange(3)).all(), matrix


def test_own_share_mixes_in_the_other_skills(source: LearnedFrom) -> None:
    half = replace(source, learn=replace(LEARN, own_share=0.4))
    np.testing.assert_allclose(half.mixture("count"), [0.2, 0.6, 0.2])
    np.testing.assert_allclose(source.mixture("count"), [0.0, 1.0, 0.0])


def test_same_bytes_again_and_after_a_stop(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, partial = tmp_path / "one.parquet", tmp_path / "two.parquet", tmp_path / "two.parquet.partial.json"
    assert learn(config_file, one) == 0
    assert "3 training skills x 3 evaluation skills" in capsys.readouterr().out
    whole, calls = ShortRuns.row, []

    def dies_at_the_second(self: ShortRuns, skill: str) -> dict[str, float]:
        calls.append(skill)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, skill)

    monkeypatch.setattr(ShortRuns, "row", dies_at_the_second)
    assert learn(config_file, two) == 130
    assert not two.exists()
    assert list(json.loads(partial.read_text())["rows"]) == ["add"]
    assert learn(config_file, two) == 0
    assert calls == ["add", "count", "count", "spell"]
    assert two.read_bytes() == one.read_bytes()
    assert not partial.exists()
    assert load_influence(one).train == ("add", "count", "spell")


def test_rows_of_other_settings_are_not_used(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "i.parquet"
    row = {"add": 9.0, "count": 9.0, "spell": 9.0}
    made = {"format": "prereq.learning/1", "key": "other", "rows": {"add": row}}
    Path(f"{out}.partial.json").write_text(json.dumps(made))
    assert learn(config_file, out) == 0
    assert "learning from the start" in capsys.readouterr().err
    assert load_influence(out).matrix.max() < 9.0


@pytest.mark.parametrize(
    "text", ["{", '{"format": "x"}', '{"format": "prereq.learning/1", "rows": {"add": {"a": "b"}}}']
)
def test_damaged_journal_is_refused(
    config_file: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "i.parquet"
    Path(f"{out}.partial.json").write_text(text)
    assert learn(config_file, out) == 2
    assert "delete it to learn from the start" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "said"), [("i.txt", "ends in .parquet"), ("no/i.parquet", "there is no such folder")])
def test_a_place_that_cannot_take_the_result_is_refused_before_the_training(
    config_file: Path, tmp_path: Path, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert learn(config_file, tmp_path / name) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("i.*"))


def test_dry_run_says_what_it_would_cost(config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert learn(config_file, tmp_path / "i.parquet", "--dry-run") == 0
    assert "3 short runs" in (said := capsys.readouterr().out)
    assert "about 1,076 tokens" in said  # 500 + 3 runs x 3 steps x 2 windows x 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml", "edges.csv"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("pool_dir=nowhere", "no finished pool"),
        ("learn.steps=0", "learn.steps: must be 1 or more"),
        ("learn.own_share=1.5", "learn.own_share: must be above 0 and at most 1"),
        ("learn.step=3", "learn.step: unknown key; did you mean steps?"),
    ],
)
def test_what_cannot_be_learned_is_said_in_a_line(
    config_file: Path, tmp_path: Path, change: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert learn(config_file, tmp_path / "i.parquet", "--set", change) == 2
    assert said in capsys.readouterr().err


def test_holdout_without_skills_is_refused(
    config_file: Path, tmp_path: Path, pool_writer: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pool = pool_writer(tmp_path / "bare", holdout_skills=())
    assert learn(config_file, tmp_path / "i.parquet", "--set", f"pool_dir={pool}") == 2
    assert "larger holdout" in capsys.readouterr().err


def test_learn_config_checks_its_start() -> None:
    with pytest.raises(ConfigError, match=r"learn\.start_tokens"):
        LearnConfig(start_tokens=-1)
