"""The row `lego`: chains of five variables, one skill for each place, seven mixtures from the same start for H steps.

The bars are differences of mean accuracy over the skills on the report set at H, in points: Skill-It with the paper's
graph over the imbalanced mixture, and SkillBandit with the same graph over Skill-It. The numbers are in
configs/experiments/lego.yaml.

    python benchmarks/lego.py stratified 100 101 102    some runs alone: how model, rate and H were chosen

With LEGO_RUNS=DIR in the environment a run is kept as DIR/METHOD-SEED.json and read from there by the next program with
the same settings and code, so that a full row can be stopped and go on, or be shared by several processes.

Source:
    Chen et al. 2023, "Skill-it!", arXiv:2307.14430, section 4.1, appendix C. Departures: a small model from scratch
    that reads clause by clause and predicts the answer alone; fresh samples in every step; H of what this model needs.
"""

import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from comparison import comparable, interval
from lego_data import SKILLS

from prereq.graph.canonical import digest
from prereq.graph.influence import Influence
from prereq.graph.load import write_whole
from prereq.selector.mixers import Arms, make_mixer

if TYPE_CHECKING:
    from lego_runs import Curve, Held, Trainer

CONFIG = Path(__file__).parents[1] / "configs" / "experiments" / "lego.yaml"
CHECKED = ("skill_it", 0)
NINETY = 0.9
# The same machine gives the same bits. Another processor rounds differently, which hundreds of steps amplify: the end
# of a run may differ as two seeds do, its beginning hardly.
START_TOLERANCE, END_TOLERANCE = 0.01, 0.03


@cache
def settings() -> dict[str, Any]:
    """The experiment's configuration."""
    found: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    return found


def declared_influence() -> Influence:
    """The paper's graph."""
    return Influence(SKILLS, SKILLS, np.array(settings()["declared"], dtype=np.float64))


class Experiment:
    """What all runs have in common."""

    def __init__(self) -> None:
        import torch
        from lego_model import ModelConfig
        from lego_runs import Schedule, held_out

        torch.set_num_threads(1)  # sums in one order
        torch.use_deterministic_algorithms(True)
        self.schedule, self._model = Schedule(**settings()["schedule"]), ModelConfig(**settings()["model"])
        self.held: Held = held_out(**settings()["held_out"])

    def trainer(self, seed: int) -> "Trainer":
        """The start that all methods of a seed share."""
        from lego_runs import Trainer

        return Trainer(self._model, self.schedule, seed)

    @cached_property
    def learned(self) -> Influence:
        """The influence that short runs show, from another start than those of the reported runs."""
        from lego_runs import learn_influence

        seed = int(settings()["graph_seed"])

        def learn() -> list[list[float]]:
            found = learn_influence(self.trainer(seed), self.held, seed, lambda line: _say(f"learned graph, {line}"))
            return found.matrix.tolist()

        return Influence(SKILLS, SKILLS, np.array(self._once("learned", learn)))

    def run(self, method: str, seed: int) -> "Curve":
        """One run of a method."""
        from lego_runs import Curve

        return Curve(**self._once(f"{method}-{seed}", lambda: asdict(self._run(method, seed))))

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        folder, inputs = os.environ.get("LEGO_RUNS"), digest([self.inputs, _code()])
        path = Path(folder) / f"{name}.json" if folder else None
        if path and path.exists() and (kept := json.loads(path.read_text()))["inputs"] == inputs:
            return kept["made"]
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        made = make()
        if path:
            write_whole(path, json.dumps({"inputs": inputs, "made": made}).encode())
        return made

    def _influence(self, method: str) -> Influence | None:
        kind = settings()["methods"][method].get("influence")
        if kind is None:
            return None
        return self.learned if kind == "learned" else declared_influence()

    def _run(self, method: str, seed: int) -> "Curve":
        from lego_runs import train_in_rounds

        entry, influence = settings()["methods"][method], self._influence(method)
        arms = Arms.of_skills(SKILLS)
        mixer = make_mixer(entry["mixer"], entry["parameters"], arms, influence)
        return train_in_rounds(
            self.trainer(seed), mixer, arms, self.held, seed, lambda line: _say(f"{method}, seed {seed}, {line}")
        )

    @cached_property
    def inputs(self) -> str:
        """Digest of the configuration and of the held-out texts."""
        return digest({"settings": settings(), "held_out": self.held.keys.tolist()})


def lego_row(size: str) -> tuple[dict[str, float], dict[str, Any]]:
    """`full` runs every method on every seed, `check` one run; the bars need `full`."""
    experiment = Experiment()
    pairs = [(method, seed) for seed in settings()["seeds"] for method in settings()["methods"]]
    curves = {pair: experiment.run(*pair) for pair in (pairs if size == "full" else [CHECKED])}
    details: dict[str, Any] = {
        "runs": [{"method": method, "seed": seed} | _kept(curve) for (method, seed), curve in curves.items()],
        "comparable": _comparable(experiment.inputs, curves[CHECKED]),
    }
    if size != "full":
        return {}, details
    details["learned"] = np.round(experiment.learned.matrix, 4).tolist()
    details["summary"] = summarise(curves, settings()["methods"], settings()["seeds"])
    final = details["summary"]["at_the_end"]
    values = {
        "lego_skillit_minus_random": final["skill_it"]["minus"]["random"]["mean"],
        "lego_bandit_minus_skillit": final["skill_bandit"]["minus"]["skill_it"]["mean"],
    }
    return values, details


def summarise(
    curves: Mapping[tuple[str, int], "Curve"], methods: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """Accuracies in percent and paired differences in points, at H and where stratified first reaches 90 % on a seed.

    Args:
        curves: By method and seed.
        methods: `stratified` must be among them.
        seeds: Those of every method.
    """
    ninety = {seed: curves["stratified", seed].first_step_at(NINETY) for seed in seeds}
    last = {seed: curves["stratified", seed].steps[-1] for seed in seeds}
    found: dict[str, Any] = {"stratified_reaches_90_at": [ninety[seed] for seed in seeds]}
    found["at_the_end"] = _table(curves, methods, last)
    reached = {seed: step for seed, step in ninety.items() if step is not None}
    found["at_90"] = _table(curves, methods, reached) if reached else None
    found["first_step_at_90"] = {m: [curves[m, seed].first_step_at(NINETY) for seed in seeds] for m in methods}
    return found


def _table(
    curves: Mapping[tuple[str, int], "Curve"], methods: Sequence[str], steps: Mapping[int, int]
) -> dict[str, Any]:
    scores = {m: [100.0 * curves[m, seed].mean_accuracy(step) for seed, step in steps.items()] for m in methods}
    table = {}
    for method in methods:
        by_skill = [_at(curves[method, seed], step) for seed, step in steps.items()]
        table[method] = {
            "accuracy": statistics.mean(scores[method]),
            "by_seed": scores[method],
            "by_skill": (100.0 * np.mean(by_skill, axis=0)).tolist(),
            "minus": {other: paired(scores[method], scores[other]) for other in methods if other != method},
        }
    return table


def _at(curve: "Curve", step: int) -> list[float]:
    return curve.accuracies[curve.steps.index(step)]


def paired(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Mean of the differences seed by seed, and its 95 % interval by Student's t (none from a single seed)."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean, around = interval(differences)
    return {"mean": mean, "interval": around, "by_seed": differences}


def _kept(curve: "Curve") -> dict[str, Any]:
    def rounded(rows: Sequence[Sequence[float]]) -> list[list[float]]:
        return [[round(value, 5) for value in row] for row in rows]

    return {
        "steps": curve.steps,
        "accuracies": rounded(curve.accuracies),
        "report_losses": rounded(curve.report_losses),
        "control_losses": rounded(curve.control_losses),
        "mixtures": rounded(curve.mixtures),
    }


def _comparable(inputs: str, curve: "Curve") -> dict[str, Any]:
    name = f"{CHECKED[0]}_seed_{CHECKED[1]}"
    return comparable(
        inputs,
        **{
            f"{name}_first_loss": (statistics.mean(curve.control_losses[0]), START_TOLERANCE),
            f"{name}_first_share": (curve.mixtures[0][1], START_TOLERANCE),
            f"{name}_loss_after_round_0": (statistics.mean(curve.control_losses[1]), START_TOLERANCE),
            f"{name}_accuracy": (100.0 * curve.mean_accuracy(curve.steps[-1]), END_TOLERANCE),
        },
    )


def _code() -> dict[str, str]:  # what trains; what a mixer does is in the package
    folder = Path(__file__).parent
    names = ("lego_data.py", "lego_model.py", "lego_runs.py")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} lego: {line}", file=sys.stderr, flush=True)


def main(method: str, seeds: Sequence[str]) -> None:
    """Run a method on some seeds."""
    experiment = Experiment()
    for seed in map(int, seeds):
        curve = experiment.run(method, seed)
        by_skill = " ".join(f"{100.0 * value:.1f}" for value in curve.accuracies[-1])
        _say(f"{method}, seed {seed}: {100.0 * curve.mean_accuracy(curve.steps[-1]):.1f} % at H, by skill {by_skill}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
