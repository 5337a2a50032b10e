"""What a report tells of a run in phases."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prereq.jobs.report import write_report
from prereq.jobs.stages_card import stage_losses
from prereq.jobs.summary import summarise
from prereq.selector.mixers import make_mixer

MakeDriver = Callable[..., Any]
PHASES = [{"start": 0, "skills": {"skill-a": 1.0}}, {"start": 3, "skills": {"skill-b": 3.0, "skill-c": 1.0}}]


def in_phases(make_driver: MakeDriver, transition: str = "step", **settings: Any) -> Any:
    """A run whose first three rounds draw skill a, the others b and c."""
    driver = make_driver(**{"lookahead": 0, **settings})
    parameters = {"phases": PHASES, "transition": transition, "lookahead": driver.config.lookahead, "unit": "rounds"}
    driver.mixer = make_mixer("phases", parameters, driver.pool.arms(), None)
    driver.drawing["mixer"] = {"name": "phases", "parameters": parameters}
    return driver


def finish(driver: Any) -> None:
    """To the end, the last rounds' reports included."""
    driver.finish()
    for number in range(driver.config.rounds):
        driver.report(number)


def test_losses_of_the_skills_of_each_stage(make_driver: MakeDriver) -> None:
    driver = in_phases(make_driver)
    finish(driver)
    found = stage_losses(summarise(str(driver.folder)))
    assert found is not None
    assert found.first == (0, 3)
    a, b, c = (found.skills.index(f"skill-{name}") for name in "abc")
    assert found.shares[0, a] == 1.0
    assert found.shares[1, a] == 0.0
    assert found.shares[1, [b, c]].sum() == pytest.approx(1.0)
    assert found.shares[1, b] == pytest.approx(0.75, abs=0.05)
    early, late, start = driver.losses(2), driver.losses(5), driver.losses("initial")
    assert found.losses[:, 0] == pytest.approx([early["skill-a"], late["skill-a"]])
    mixed = [sum(found.shares[1, i] * at[f"skill-{n}"] for n, i in (("b", b), ("c", c))) for at in (early, late, start)]
    assert found.losses[:, 1] == pytest.approx(mixed[:2])
    assert found.untrained == pytest.approx([start["skill-a"], mixed[2]])
    page = Path(write_report(str(driver.folder))).read_text(encoding="utf-8")
    assert f"forward transfer {mixed[2] - mixed[0]:+.4f}" in page
    assert f"backward transfer {early['skill-a'] - late['skill-a']:+.4f}" in page
    assert f'<td class="">{late["skill-a"] - early["skill-a"]:+.4f}</td>' in page  # below zero: nothing was forgotten


def test_what_is_unlearned_is_forgotten(make_driver: MakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = in_phases(make_driver)
    falling = driver.losses
    monkeypatch.setattr(
        driver, "losses", lambda n: {**falling(n), "skill-a": 1.0 if n == "initial" else abs(n - 2) / 10 + 0.5}
    )
    finish(driver)
    found = stage_losses(summarise(str(driver.folder)))
    assert found is not None
    np.testing.assert_allclose(found.losses[:, 0], [0.5, 0.8])
    page = Path(write_report(str(driver.folder))).read_text(encoding="utf-8")
    assert "forgetting +0.3000, CurLL&#x27;s forgetting +0.1500" in page
    assert '<td class="">+0.3000</td>' in page


def test_stages_begin_where_the_mixture_jumped_whatever_the_lookahead(make_driver: MakeDriver) -> None:
    driver = in_phases(make_driver, lookahead=2)
    finish(driver)
    found = stage_losses(summarise(str(driver.folder)))
    assert found is not None
    assert found.first == (0, 3)


def test_other_runs_have_no_stages(make_driver: MakeDriver) -> None:
    plain = make_driver("plain")
    finish(plain)
    assert stage_losses(summarise(str(plain.folder))) is None
    assert "<h2>Stages</h2>" not in Path(write_report(str(plain.folder))).read_text(encoding="utf-8")
    ramp = in_phases(make_driver, "linear", name="ramp")
    finish(ramp)
    assert stage_losses(summarise(str(ramp.folder))) is None
    begun = in_phases(make_driver, name="begun", rounds=3)
    finish(begun)
    assert stage_losses(summarise(str(begun.folder))) is None
