"""`prereq solve` on folders of runs that were really drawn and trained."""

import numpy as np
import pytest
import yaml

from prereq.jobs.cli import main
from prereq.jobs.solve import read_proxies
from prereq.jobs.train.trainer import train
from prereq.selector.rounds.manifest import read_chain
from prereq.selector.storage import Folder

MIXES = ({"add": 0.8, "count": 0.1, "spell": 0.1}, {"add": 0.2, "count": 0.2, "spell": 0.6}, {"count": 1.0})


@pytest.fixture
def sweep(make_lessons, tiny, lesson_pool, tmp_path):
    """Three finished runs of static mixtures, as `prereq sweep` leaves them."""
    for index, mix in enumerate(MIXES):
        lessons = make_lessons(f"sweep/mix-{index}", mixer="static", parameters={"skills": mix})
        config = {"run_dir": str(lessons.folder), "pool_dir": str(lesson_pool), "seed": 0, "mixer": {"name": "static"}}
        (lessons.folder / "config.yaml").write_text(yaml.safe_dump(config))
        with lessons.sampling():
            train(lessons.folder, tiny)
    return tmp_path / "sweep"


def test_what_was_drawn_and_the_control_losses_go_in_and_a_configuration_comes_out(sweep, tmp_path, capsys):
    proxies = read_proxies([str(sweep)])
    assert proxies.losses.shape == (3, 3)
    chain = read_chain(Folder(sweep / "mix-1"))
    drawn = {arm: sum(m.realised.get(arm, 0) for m in chain) for arm in proxies.arms.ids}
    np.testing.assert_allclose(proxies.mixtures[1], [drawn[a] / sum(drawn.values()) for a in proxies.arms.ids])
    assert proxies.mixtures[2].tolist() == [0.0, 1.0, 0.0]
    for method in ("laws", "olmix", "climb", "regmix"):
        out = tmp_path / f"{method}.yaml"
        assert main(["solve", str(sweep), "--method", method, "--regressor", "linear", "--out", str(out)]) == 0
        solved = yaml.safe_load(out.read_text())
        assert solved["mixer"]["name"] == "static"
        assert sum(solved["mixer"]["parameters"]["arms"].values()) == pytest.approx(1.0, abs=1e-6)
        assert solved["run_dir"].endswith(f"/{method}")
        assert solved["pool_dir"] == proxies.config["pool_dir"]
    assert "12 runs or more are advised for 3 arms" in capsys.readouterr().out


def test_climb_asks_for_further_runs_as_a_sweep(sweep, tmp_path, capsys):
    out = tmp_path / "more.yaml"
    command = ["solve", str(sweep), "--method", "climb", "--propose", "4", "--regressor", "linear", "--out", str(out)]
    assert main([*command, "--dry-run"]) == 0
    assert not out.exists()
    assert main([*command, "--output", "elsewhere"]) == 0
    value = yaml.safe_load(out.read_text())
    assert value["output"] == "elsewhere"
    assert len(value["runs"]) == 4
    assert yaml.safe_load((tmp_path / value["base"]).read_text())["seed"] == 0
    for changes in value["runs"].values():
        assert sum(changes["mixer.parameters"]["arms"].values()) == pytest.approx(1.0, abs=1e-6)
    assert main(["solve", str(sweep), "--method", "laws", "--propose", "4", "--out", str(out)]) == 2
    assert "only climb asks for further runs" in capsys.readouterr().err
