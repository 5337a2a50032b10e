"""`prereq solve`: from the folders of proxy runs to a configuration with the best mixture, by every method."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from prereq.graph.errors import ConfigError
from prereq.jobs import solve as solving
from prereq.jobs.cli import main
from prereq.selector.mixers.protocol import Arms

ARMS = Arms.of_skills(["easy", "hard", "noise"], [500, 300, 200])
SLOPES = np.array([[-1.0, -0.2, 0.8], [-0.1, -1.5, 0.9]])  # how each skill's log loss moves with each arm's share


@pytest.fixture
def proxies():
    rng = np.random.default_rng(0)
    mixtures = rng.dirichlet(np.ones(3), 60)
    return solving.Proxies(
        arms=ARMS, mixtures=mixtures, losses=1.0 + np.exp(mixtures @ SLOPES.T), skills=("a", "b"), config={}
    )


def true_mean(mixture: np.ndarray) -> float:
    return float((1.0 + np.exp(SLOPES @ mixture)).mean())


@pytest.mark.parametrize("method", [pytest.param("regmix", marks=pytest.mark.slow), "laws", "olmix", "climb"])
def test_every_method_finds_a_mixture_near_the_best(proxies, method):
    grid = np.random.default_rng(1).dirichlet(np.ones(3), 20_000)
    least = min(map(true_mean, grid))
    found = solving.solve(proxies, method)
    assert found.sum() == pytest.approx(1.0)
    # olmix is held near the corpus on purpose, and trees are flat between runs
    allowed = {"laws": 0.003, "olmix": 0.08, "regmix": 0.08, "climb": 0.08}[method]
    assert true_mean(found) < least + allowed
    assert true_mean(found) < true_mean(ARMS.proportions) - 0.05
    np.testing.assert_array_equal(found, solving.solve(proxies, method))


def test_no_arm_is_asked_for_more_than_four_times(proxies):
    tokens = 2400.0  # 4 * 300 / 2400: at most half of it from `hard`
    for method in ("olmix", "climb"):
        assert solving.solve(proxies, method, tokens=tokens)[1] <= 0.5 + 1e-9


def write_runs(folder: Path, pool: Path, losses: list[float | None]) -> None:
    for index, loss in enumerate(losses):
        run = folder / f"mix-{index}-seed0"
        (run / "train").mkdir(parents=True)
        (run / "config.yaml").write_text(yaml.safe_dump({"run_dir": str(run), "pool_dir": str(pool), "seed": 0}))
        (run / "train/final.json").write_text(json.dumps({"control": {"final": {"losses": {"add": loss}}}}))


def test_folders_without_finished_runs_are_named(tmp_path):
    (tmp_path / "sweep/half").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds no finished run"):
        solving.read_proxies([str(tmp_path / "sweep")])


def test_a_configuration_is_only_for_proposals(tmp_path, capsys):
    assert main(["solve", "quickstart", "--out", str(tmp_path / "best.yaml")]) == 2
    assert "is for --propose N" in capsys.readouterr().err
    assert not (tmp_path / "best.yaml").exists()
