"""Mixers compared in the simulator and in front of small trainers, and what a step costs with many arms. Needs no GPU.

    python benchmarks/bench_mixers.py --out DIR [--size check|full] [--rows ROW ...]

Writes params.json, metrics.json (`bars`: {name, value, unit, bar, holds}) and env.json; exits 1 when one is missed.
All rows but dm make their data; dm is left out, with a line that says so, where mixers_dm.py finds none.
A row is a function that returns (values that bars may name, further numbers to keep); to add one, add it to ROWS. What
it keeps as `comparable` (`comparison.comparable`) is compared by --size check with `results/mixers-ROW`, which --size
full made; where they differ the program exits 1.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from comparison import comparable, compare, say
from lego import lego_row
from mixers_addition import addition_row
from mixers_dm import dm_row
from recording import bars, record

from prereq.graph.canonical import digest
from prereq.graph.influence import Influence
from prereq.selector.mixers import Arms, Mixer, Observation, SkillShares, make_mixer
from prereq.selector.mixers.simulator import SimulatorConfig, simulate
from prereq.selector.mixers.worlds import DECLARED, ROUNDS, SIZES, World, make_world
from prereq.selector.rounds.manifest import RoundManifest, manifest_name, round_folder
from prereq.selector.rounds.order import IntArray
from prereq.selector.rounds.plan import Cursor, LastLooks, Plan, plan_round
from prereq.selector.rounds.state import FILE, encode_state
from prereq.selector.storage import Folder

Values = dict[str, float]
Row = Callable[[str], tuple[Values, dict[str, Any]]]

SEEDS = range(50)
NOISE = 0.02
# SkillBandit's parameters and the learning rate were chosen on the worlds 1000-1083, which the bars do not use. Both
# mixers get the same rate; Skill-It with the right graph gains with every step of it, by 2 to 15 % from 2 to 4.
LEARNING_RATE = 4.0
LEARNING_RATES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
# Skill-It with the right graph, sharper and on the newest losses alone: how much of a gain needs no learning at all
SHARPER = ({"learning_rate": 16.0}, {"learning_rate": 16.0, "window": 1}, {"learning_rate": 64.0, "window": 1})
WRONG = DECLARED[1:]
ROUNDING = 0.01  # what another processor's rounding may do to a median after 50 rounds

# ---------------------------------------------------------------------------------------------- row 4: a wrong graph


def final_loss(world: World, mixer: Mixer) -> float:
    """Mean loss (nats) after all rounds."""
    config = SimulatorConfig(relative_noise=NOISE, seed=world.seed)
    return simulate(mixer, world.arms, world.truth, ROUNDS, config).final_loss


def final_losses(world: World, learning_rate: float, **bandit: Any) -> dict[str, float]:
    """Final losses of uniform, and of Skill-It and SkillBandit (with further parameters) with every declared graph."""
    losses = {"uniform": final_loss(world, make_mixer("uniform", {}, world.arms, None))}
    for name in ("skill_it", "skill_bandit"):
        for kind in DECLARED:
            parameters = {"learning_rate": learning_rate} | (bandit if name == "skill_bandit" else {})
            mixer = make_mixer(name, parameters, world.arms, world.declared(kind))
            losses[f"{name} {kind}"] = final_loss(world, mixer)
    return losses


def summarise(worlds: list[World], losses: list[dict[str, float]], learning_rate: float) -> dict[str, Any]:
    """Ratios to Skill-It with the right graph, by method and graph, by size, and worlds that end above uniform."""
    ratios = {name: [run[name] / run["skill_it right"] for run in losses] for name in losses[0]}
    wrong = [f"skill_bandit {kind}" for kind in WRONG]
    sizes = [len(world.arms.ids) for world in worlds]
    return {
        "learning_rate": learning_rate,
        "median": statistics.median(ratio for name in wrong for ratio in ratios[name]),
        "worse_than_uniform": sum(any(run[name] > run["uniform"] for name in wrong) for run in losses),
        "by_method": {name: _spread(values) for name, values in ratios.items()},
        "by_skills": {
            str(k): _spread([ratios[name][i] for name in wrong for i, size in enumerate(sizes) if size == k])
            for k in SIZES
        },
        "worse_than_uniform_by_graph": {
            name: sum(run[name] > run["uniform"] for run in losses) for name in losses[0] if name != "uniform"
        },
        "oracle_share_of_initial_loss": _spread([run["skill_it right"] / 3.0 for run in losses]),
    }


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {"p10": float(low), "median": float(middle), "p90": float(high), "max": float(max(values))}


def worlds_row(size: str) -> tuple[Values, dict[str, Any]]:
    """The issue's row 4; `full` also shows other learning rates, and what sharper mixtures gain by themselves."""
    worlds = [make_world(seed) for seed in SEEDS]
    losses = [final_losses(world, LEARNING_RATE) for world in worlds]
    main = summarise(worlds, losses, LEARNING_RATE)
    further = _further(worlds, losses) if size == "full" else {}
    values = {
        "bandit_vs_oracle_median": main["median"],
        "bandit_worse_than_uniform_worlds": float(main["worse_than_uniform"]),
    }
    by_skills = {f"median_{k}_skills": (main["by_skills"][str(k)]["median"], ROUNDING) for k in SIZES}
    numbers = comparable(
        _worlds_digest(worlds),
        bandit_vs_oracle_median=(main["median"], ROUNDING),
        bandit_worse_than_uniform_worlds=(main["worse_than_uniform"], 0.0),
        oracle_share_of_initial_loss=(main["oracle_share_of_initial_loss"]["median"], ROUNDING),
        uniform_median=(main["by_method"]["uniform"]["median"], ROUNDING),
        **by_skills,
    )
    return values, {"main": main, "comparable": numbers} | further


def _further(worlds: list[World], losses: list[dict[str, float]]) -> dict[str, Any]:
    """Other learning rates, SkillBandit in the units of Skill-It, and Skill-It with the right graph, but sharper."""
    rates = [rate for rate in LEARNING_RATES if rate != LEARNING_RATE]
    sharper = [
        [final_loss(world, make_mixer("skill_it", parameters, world.arms, world.declared("right"))) for world in worlds]
        for parameters in SHARPER
    ]
    best = [min(each) for each in zip(*sharper, [run["skill_it right"] for run in losses], strict=True)]
    wrong = [run[f"skill_bandit {kind}"] / least for run, least in zip(losses, best, strict=True) for kind in WRONG]
    return {
        "rates": [summarise(worlds, [final_losses(world, rate) for world in worlds], rate) for rate in rates],
        "not_relative": summarise(
            worlds, [final_losses(world, LEARNING_RATE, relative=False) for world in worlds], LEARNING_RATE
        ),
        "sharper_oracles": [
            parameters | _spread([a / run["skill_it right"] for a, run in zip(found, losses, strict=True)])
            for parameters, found in zip(SHARPER, sharper, strict=True)
        ],
        "bandit_vs_best_of_them": _spread(wrong),
    }


def _worlds_digest(worlds: list[World]) -> str:
    """Of the graphs; their speed follows from them, up to rounding."""
    return digest({"noise": NOISE, "rounds": ROUNDS, "structures": [world.structure.tolist() for world in worlds]})


# ---------------------------------------------------------------------------------------------- row 6: cost

SKILLS = 5_000
SKILLS_PER_ARM = 3
DOCUMENTS_PER_ARM = 20
SAMPLES = 16_384  # of a round: 64 batches of 256
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
REPORTS = 40  # before the one that is timed, so that the mixer's memory is full
TIMED = 5
BUSY = 1.0  # seconds may double on a busy or slower machine


class Stock:
    """Documents of equal number in every arm, in one order for every epoch."""

    def __init__(self, tokens: IntArray) -> None:
        self._tokens = list(tokens)
        self._last = LastLooks(len(tokens))

    def all_rows(self) -> IntArray:
        """Documents of every arm."""
        return np.array([len(tokens) for tokens in self._tokens])

    def tokens_at(self, arms: IntArray, epochs: IntArray, positions: IntArray) -> IntArray:
        """Tokens of one document of each arm, found as `PoolStock` finds them."""
        return self._last.tokens_at(arms, epochs, positions, self.epoch_tokens)

    def epoch_tokens(self, arm: int, epoch: int) -> IntArray:
        """Tokens of an arm's documents."""
        return self._tokens[arm]


def sparse_arms(count: int, tokens: IntArray, skills: tuple[str, ...]) -> Arms:
    """`count` arms, each with a few random skills."""
    rng = np.random.default_rng([0, count])
    # one draw per stripe of the columns: different and ascending without sorting
    stripe = (len(skills) + 1) // SKILLS_PER_ARM
    columns = rng.integers(0, stripe, (count, SKILLS_PER_ARM)) + stripe * np.arange(SKILLS_PER_ARM)
    values = rng.dirichlet(np.ones(SKILLS_PER_ARM), count)
    index = np.repeat(np.arange(count), SKILLS_PER_ARM)
    shares = SkillShares((*skills, "_none"), count, index, columns.reshape(-1), values.reshape(-1))
    rows = np.full(count, tokens.shape[1])
    return Arms(
        ids=tuple(f"{arm:016x}" for arm in range(count)),
        tokens=tokens.sum(axis=1),
        rows=rows,
        skills=skills,
        shares=shares,
    )


def sparse_influence(skills: tuple[str, ...]) -> Influence:
    """Every skill helps itself and about five others."""
    rng = np.random.default_rng(1)
    matrix = np.zeros((len(skills), len(skills)))
    matrix[rng.integers(0, len(skills), 5 * len(skills)), rng.integers(0, len(skills), 5 * len(skills))] = 0.5
    np.fill_diagonal(matrix, 1.0)
    return Influence(skills, skills, matrix)


def write_round(run: Folder, number: int, arms: Arms, parts: tuple[Any, ...]) -> None:
    """State and manifest of a round as the sampler writes them, without shards."""
    name, state, requested, plan = parts
    mixer, arrays = encode_state(name, state, write_arrays=True)
    if arrays is not None:
        run.replace(f"{round_folder(number)}/{FILE}", arrays)
    drawn = np.flatnonzero(plan.documents).tolist()
    manifest = RoundManifest(
        round=number,
        parent=None,
        config="",
        pool="",
        seed=0,
        global_batch=SAMPLES,
        feedback=[],
        mixer=mixer,
        mixture={
            "requested": dict(zip(arms.ids, requested.tolist(), strict=True)),
            "arms": dict(zip(arms.ids, plan.weights.tolist(), strict=True)),
            "skills": arms.skill_weights(plan.weights),
        },
        realised={arms.ids[a]: int(plan.realised[a]) for a in drawn},
        draws={
            arms.ids[a]: [{"epoch": d.epoch, "start": d.start, "stop": d.stop} for d in plan.draws[a]] for a in drawn
        },
        samples=SAMPLES,
        documents=SAMPLES,
        tokens=int(plan.realised.sum()),
        bytes=0,
        order="",
        shards=(),
    )
    if not run.commit(manifest_name(number), manifest.to_bytes()):
        raise RuntimeError("the benchmark's own folder held a round")


def measure_cost(count: int) -> dict[str, Any]:
    """CPU seconds of one report, mixture, plan and manifest over `count` arms; peak memory of this process."""
    rng = np.random.default_rng([2, count])
    tokens = rng.integers(100, 2000, (count, DOCUMENTS_PER_ARM))
    skills = tuple(f"skill-{index:04d}" for index in range(SKILLS))
    arms, stock = sparse_arms(count, tokens, skills), Stock(tokens)
    mixer = make_mixer("skill_bandit", {"learning_rate": 0.05}, arms, sparse_influence(skills))
    losses, state = np.full(SKILLS, 3.0), mixer.init()
    eval_tokens = {skill: 2000 + index for index, skill in enumerate(skills)}
    carry, cursors = np.zeros(count), (Cursor(),) * count
    plan: Plan | None = None
    parts: dict[str, list[float]] = {name: [] for name in ("update", "mixture", "plan", "write", "total")}
    with tempfile.TemporaryDirectory() as folder:
        run = Folder(folder)
        for number in range(REPORTS + TIMED):
            drawn = rng.integers(0, 3000, count).astype(float) if plan is None else plan.realised.astype(float)
            losses = losses * 0.99 * (1.0 + 0.01 * rng.standard_normal(SKILLS))
            report = Observation(
                round=number,
                losses=dict(zip(skills, losses.tolist(), strict=True)),
                eval_tokens=eval_tokens,
                drawn_tokens=drawn,
            )
            clock = [time.process_time()]
            state = mixer.update(state, report)
            clock.append(time.process_time())
            if number < REPORTS:
                continue
            requested = mixer.mixture(state)
            clock.append(time.process_time())
            plan = plan_round(requested, carry, cursors, stock, arms.tokens, 4, SAMPLES)
            clock.append(time.process_time())
            write_round(run, number, arms, (mixer.name, state, requested, plan))
            clock.append(time.process_time())
            for name, spent in zip(parts, [*np.diff(clock), clock[-1] - clock[0]], strict=True):
                parts[name].append(float(spent))
            carry, cursors = plan.carry, plan.cursors
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0  # KiB on Linux
    inputs = hashlib.sha256(tokens.tobytes()).hexdigest()
    return {"arms": count, "inputs": inputs, "seconds": parts, "peak_mib": peak}


def cost_row(size: str) -> tuple[Values, dict[str, Any]]:
    """The issue's row 6, each size in a process of its own; the first of the timed steps warms up."""
    found = {}
    for count in (10_000, 100_000):
        command = [sys.executable, str(Path(__file__)), "--measure-cost", str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | ONE_THREAD)
        found[count] = json.loads(done.stdout)
    small, large = (statistics.median(found[count]["seconds"]["total"][1:]) for count in found)
    values = {
        "update_seconds_100k": large,
        "update_mib_100k": found[100_000]["peak_mib"],
        "update_growth": large / small,
    }
    inputs = digest({"skills": SKILLS, "per_arm": SKILLS_PER_ARM, "samples": SAMPLES, "arms": found[100_000]["inputs"]})
    numbers = comparable(
        inputs,
        update_seconds_100k=(large, BUSY),
        update_mib_100k=(found[100_000]["peak_mib"], 0.2),
        update_growth=(large / small, BUSY),
    )
    return values, {"runs": list(found.values()), "comparable": numbers}


# ---------------------------------------------------------------------------------------------- the program

ROWS: dict[str, Row] = {
    "worlds": worlds_row,
    "cost": cost_row,
    "lego": lego_row,
    "addition": addition_row,
    "dm": dm_row,
}


def _compared(details: dict[str, Any]) -> dict[str, Any]:
    found = {name: compare(name, kept["comparable"]) for name, kept in details.items() if "comparable" in kept}
    for name, result in found.items():
        say(name, result)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the rows and write the three files; 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--size", choices=("check", "full"), default="check")
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--measure-cost", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure_cost is not None:
        print(json.dumps(measure_cost(options.measure_cost)))
        return 0
    if options.out is None:
        parser.error("--out is required")
    values: Values = {}
    details: dict[str, Any] = {}
    for name in options.rows:
        found, details[name] = ROWS[name](options.size)
        values |= found
    metrics: dict[str, Any] = {"bars": bars("mixers", values), "rows": details}
    if options.size == "check":
        metrics["compared"] = _compared(details)
    agrees = all(result["agrees"] for result in metrics.get("compared", {}).values())
    params = {
        "size": options.size,
        "rows": options.rows,
        "seeds": [SEEDS.start, SEEDS.stop],
        "noise": NOISE,
        "learning_rate": LEARNING_RATE,
        "skills": SKILLS,
        "skills_per_arm": SKILLS_PER_ARM,
        "documents_per_arm": DOCUMENTS_PER_ARM,
        "samples": SAMPLES,
    }
    return max(record(options.out, params, metrics), int(not agrees))


if __name__ == "__main__":
    sys.exit(main())
