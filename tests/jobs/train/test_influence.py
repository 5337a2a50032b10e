"""Influence of single documents: against gradients written out, a sample against all, the same bytes, refusals."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F

from prereq.graph.errors import PrereqError
from prereq.jobs.cli import main
from prereq.jobs.train.evaluate import prepare
from prereq.jobs.train.gradients import dot, evenly, group_gradient
from prereq.jobs.train.influence import InfluenceMeter, document_values, find_source, measure_arms
from prereq.jobs.train.kronecker import along, kronecker_factors, preconditioned
from prereq.jobs.train.trainer import train
from prereq.jobs.train.windows import IGNORE, training_windows
from prereq.selector.feed import HoldoutDocument
from prereq.selector.rounds.pool import Pool, read_holdout

TEXTS = ["1 + 2 = 3. ", "", "7 8 9 10", "abcd" * 60, "é", "4 5 6 7 8 9 " * 30]


@pytest.fixture
def run(make_lessons, tiny) -> Path:
    lessons = make_lessons(mixer="proportional")
    with lessons.sampling():
        train(lessons.folder, tiny)
    return lessons.folder


def written_out(meter: InfluenceMeter, text: str) -> float:
    """The gradient of the mean loss over the document's windows that count, by autograd, times the step."""
    windows = training_windows([text], meter.config.seq_len)
    rows = list(evenly(len(windows.inputs), meter.config.signal_windows))
    inputs, targets = (torch.from_numpy(side[rows]) for side in windows)
    loss = F.cross_entropy(meter.model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    names, weights = zip(*meter.model.named_parameters(), strict=True)
    gradient = dict(zip(names, torch.autograd.grad(loss, weights), strict=True))
    return dot(meter.step, gradient)


def test_values_are_the_inner_products_with_each_documents_gradient(run: Path):
    meter = InfluenceMeter(find_source(str(run), None, None))
    found = document_values(meter.model, meter.step, TEXTS, meter.config)
    expected = [written_out(meter, text) for text in TEXTS]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 0.1 * np.abs(expected).max(), "documents differ"
    alone = [document_values(meter.model, meter.step, [text], meter.config)[0] for text in TEXTS]
    np.testing.assert_allclose(found, alone, rtol=1e-4)


def test_of_a_text_of_one_window_it_is_the_signals_inner_product(run: Path):
    meter = InfluenceMeter(find_source(str(run), None, None))
    windows = training_windows(["3 4 5"], meter.config.seq_len)
    group = group_gradient(meter.model, windows, 1)
    found = document_values(meter.model, meter.step, ["3 4 5"], meter.config)
    assert found[0] == pytest.approx(dot(meter.step, group.mean), rel=1e-4)
    sums = along(meter.model, windows, meter.step, 7)
    assert sums[0] == pytest.approx(found[0] * (windows.targets != IGNORE).sum(), rel=1e-6)


def test_the_step_is_the_targets_gradient_behind_the_curvature(run: Path):
    source = find_source(str(run), None, ["count"])
    meter = InfluenceMeter(source)
    rows = read_holdout(Pool(source.pool).folder, "control").to_pylist()
    held = [HoldoutDocument(r["id"], r["text"], ("count",)) for r in rows if "count" in r["skills"]]
    control = prepare(held, ["count"], meter.config.seq_len, meter.config.signal_tokens)
    gradient = group_gradient(meter.model, control.of_skill("count"), meter.config.signal_windows).mean
    factors = kronecker_factors(meter.model, control.windows, 16, meter.config.influence_damping)
    for name, value in preconditioned(gradient, factors).items():
        torch.testing.assert_close(meter.step[name], value)
    assert all(part in "".join(meter.step) for part in ("qkv", "mix", "up", "down"))


def test_a_gradient_step_on_a_document_of_high_influence_lowers_the_loss_more(run: Path):
    """What the value means: with no curvature, the drop of the target's loss behind a small step on the document."""
    meter = InfluenceMeter(find_source(str(run), None, ["count"]))
    meter.model.double()  # so that small steps show
    rows = read_holdout(meter.pool.folder, "control").to_pylist()
    windows = training_windows([row["text"] for row in rows if "count" in row["skills"]], meter.config.seq_len)
    target = group_gradient(meter.model, windows, 100).mean
    linear = {name: value for name, value in target.items() if name in meter.step}
    texts = ["11 12 13 14", "abcdabcdab", "3 + 4 = 7. "]
    found = document_values(meter.model, linear, texts, meter.config)

    def mean_loss() -> float:
        with torch.no_grad():
            each = [
                F.cross_entropy(
                    meter.model(torch.from_numpy(i[None])).flatten(0, 1), torch.from_numpy(t), ignore_index=IGNORE
                ).double()
                for i, t in zip(*windows, strict=True)
            ]
        return float(torch.stack(each).mean())

    rate, before = 1e-4, mean_loss()
    for text, value in zip(texts, found, strict=True):
        gradient = group_gradient(meter.model, training_windows([text], meter.config.seq_len), 1).mean
        weights = dict(meter.model.named_parameters())
        with torch.no_grad():
            for name in linear:
                weights[name].sub_(rate * gradient[name])
        drop = before - mean_loss()
        with torch.no_grad():
            for name in linear:
                weights[name].add_(rate * gradient[name])
        assert drop / rate == pytest.approx(value, rel=0.01, abs=1e-3 * np.abs(found).max())


def test_a_sample_as_large_as_the_arm_is_all_of_it_and_a_smaller_one_gives_the_rest_its_mean(run: Path):
    every = list(measure_arms(find_source(str(run), None, None), 1))
    large = list(measure_arms(find_source(str(run), 40, None), 1))
    some = list(measure_arms(find_source(str(run), 7, None), 1))
    assert len(every) == 3
    for whole, same, part in zip(every, large, some, strict=True):
        assert whole.measured.all()
        assert whole.values.tolist() == same.values.tolist()
        assert part.measured.sum() == 7
        np.testing.assert_allclose(part.values[part.measured], whole.values[part.measured], rtol=1e-3)
        rest = set(part.values[~part.measured].tolist())
        assert rest == {float(f"{part.values[part.measured].mean():.6g}")}


def influence(run: Path, out: Path, *more: str) -> int:
    return main(["influence", str(run), "--out", str(out), *more])


def test_the_file_has_the_pools_documents_and_the_same_bytes_for_any_number_of_workers(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    paths = [tmp_path / f"{name}.parquet" for name in ("one", "again", "two")]
    for path, workers in zip(paths, ("1", "1", "2"), strict=True):
        assert influence(run, path, "--per-arm", "5", "--workers", workers, "--targets", "spell") == 0
    assert paths[0].read_bytes() == paths[1].read_bytes() == paths[2].read_bytes()
    table = pq.read_table(paths[0])
    pool = Pool(json.loads((run / "run.json").read_bytes())["pool"])
    assert table["id"].to_pylist() == [name for arm in range(3) for name in pool.text_columns(arm, ("id",))[0]]
    assert table["measured"].to_numpy().sum() == 15
    assert np.isfinite(table["value"].to_numpy()).all()
    facts = json.loads(table.schema.metadata[b"prereq.document_influence/1"])
    assert facts["per_arm"] == 5
    assert facts["targets"] == ["spell"]
    assert facts["pool"] == pool.sha256
    said = capsys.readouterr().out
    assert "120 documents, 15 measured" in said
    assert "on 1 skills' control loss" in said


def test_dry_run_writes_nothing_and_json_is_for_programs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert influence(run, tmp_path / "i.parquet", "--dry-run", "--per-arm", "5") == 0
    assert "120 documents of" in (said := capsys.readouterr().out)
    assert "15 of them measured in 3 arms, on the control loss of 3 skills" in said
    assert not (tmp_path / "i.parquet").exists()
    assert influence(run, tmp_path / "i.parquet", "--json", "--per-arm", "all") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["measured"] == facts["documents"] == 120
    assert set(facts["arms"]) == {"arm-add", "arm-count", "arm-spell"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--targets", "spel"), "has no skill 'spel'; did you mean 'spell'"),
        (("--per-arm", "0"), "--per-arm is '0'; expected a number of documents"),
        (("--per-arm", "some"), "--per-arm is 'some'"),
        (("--workers", "0"), "--workers is 0"),
        (("--set", "seed=1"), "is a folder, not a configuration"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    run: Path, tmp_path: Path, more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
):
    assert influence(run, tmp_path / "i.parquet", *more) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "i.parquet").exists()


def test_runs_that_cannot_be_used_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert influence(run, tmp_path / "no" / "i.parquet") == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert influence(run, tmp_path / "i.txt") == 2
    assert "ends in .parquet" in capsys.readouterr().err
    assert influence(tmp_path, tmp_path / "i.parquet") == 2
    assert "neither" not in (said := capsys.readouterr().err)
    assert "holds no run" in said
    pool = Path(json.loads((run / "run.json").read_bytes())["pool"])
    manifest = (pool / "manifest.json").read_bytes()
    (pool / "manifest.json").write_bytes(manifest.replace(b'"config":"c"', b'"config":"d"'))
    assert influence(run, tmp_path / "i.parquet") == 2
    assert "is not the pool that the run was drawn from any more" in capsys.readouterr().err
    (pool / "manifest.json").write_bytes(manifest)
    checkpoint = run / "train/checkpoint.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    assert influence(run, tmp_path / "i.parquet") == 2
    assert "checkpoint.pt: cannot be read" in capsys.readouterr().err
    checkpoint.unlink()
    assert influence(run, tmp_path / "i.parquet") == 2
    assert "train the run first" in capsys.readouterr().err


def test_a_diverged_model_is_refused(run: Path, tmp_path: Path):
    value = torch.load(run / "train/checkpoint.pt", weights_only=True)
    value["model"]["norm.weight"].fill_(float("nan"))
    torch.save(value, run / "train/checkpoint.pt")
    with pytest.raises(PrereqError, match="training diverged"):
        InfluenceMeter(find_source(str(run), None, None))
