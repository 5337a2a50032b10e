"""Mixers in front of a real trainer: 56 skills of `dm_mathematics`, all of them wanted, or one of them.

    python benchmarks/mixers_dm.py --out DIR [--size check|full] [--jobs 1] [--journal FILE]

Run it in the repository's root. The data lie in $PREREQ_DATA, else ../shared/data; without them there is nothing to do,
and the program exits 2. `full` builds the pool, learns the influence of the skills on each other (`prereq graph learn`)
and makes every run of the sweeps SWEEPS in configs/experiments in one process (pool_training.py).
`check` makes one target run and one row of the influence again and compares them with what `full` stored in
results/mixers-dm.

Losses are nats per token on the report split. A ratio is the tokens that a method needs to get to the loss that uniform
has after COMPARED_AT tokens, over COMPARED_AT. Bars are over the seeds BAR_SEEDS; what ran on more has a second table.
Learning rates were chosen on seeds from 100 and on other targets.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from comparison import RESULTS, comparable, compare, say
from recording import bars, record
from token_ratios import COMPARED_AT, Curve, at_least, continual_table, ratio, target_aims, target_table, tokens_to

from prereq.graph.canonical import digest, sha256_hex
from prereq.graph.influence import Influence, load_influence
from prereq.graph.load import load_edges

if TYPE_CHECKING:
    from prereq.jobs.config import RunConfig

REPOSITORY = Path(__file__).parents[1]
EXPERIMENTS = REPOSITORY / "configs" / "experiments"
REPORT_TOKENS = 1024  # of the report split per skill
CONTINUAL_BAR, TARGET_BAR = "skill_bandit_learned", "skill_it"
OURS = ("skill_bandit_learned", "skill_bandit_declared")
TARGETS = 5
SWEEPS = tuple(f"mixers_dm{part}" for part in ("", "_methods", "_solved", "_target"))
BAR_SEEDS = (0, 1, 2)
# The same machine gives the same bits; another processor rounds differently, which moves a loss little and the tokens
# at which it is passed more.
LOSS_TOLERANCE, RATIO_TOLERANCE, INFLUENCE_TOLERANCE = 0.02, 0.2, 0.1

Values = dict[str, float]


def targets_of(edges: Path) -> tuple[str, ...]:
    """The targets, by a rule that looks at no result.

    Of the skills composed of another one by construction, in the order of their names, TARGETS that are evenly spaced
    from the first to the last.
    """
    graph = load_edges(edges)
    composed = sorted(edge.target for edge in graph.edges if edge.target == f"{edge.prerequisite}_composed")
    return tuple(composed[round(index * (len(composed) - 1) / (TARGETS - 1))] for index in range(TARGETS))


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of the experiment."""

    variant: str
    seed: int
    config: "RunConfig"
    target: str | None  # the one skill that counts; None: all

    @property
    def learned(self) -> bool:
        """Whether the mixer reads the learned influence, not the declared graph."""
        return self.config.mixer.influence.path is not None


def read_plan(data: Path, pool_dir: str) -> list[Planned]:
    """Every run of the sweeps, on data and a pool of this machine."""
    from prereq.jobs.sweep import read_sweep

    planned = []
    for name in SWEEPS:
        for member in read_sweep(str(EXPERIMENTS / f"{name}.yaml"))[0]:
            target = member.variant.partition("-")[2] or None
            planned.append(Planned(member.variant, member.seed, moved(member.config, data, pool_dir), target))
    return planned


def moved(config: "RunConfig", data: Path, pool_dir: str) -> "RunConfig":
    """A configuration with the data and the pool where this machine has them; paths from here, as the file has them."""
    from prereq.jobs.config import make_config

    settings, here = config.resolved(), os.path.relpath(data)
    settings["sources"][0]["paths"] = [f"{here}/documents.jsonl.gz"]
    settings["graph"]["edges"] = f"{here}/edges.csv"
    settings["pool_dir"] = pool_dir
    return make_config(settings, "mixers_dm")


# ---------------------------------------------------------------------------------------------- running


def run_one(planned: Planned, learned: Influence, aims: Mapping[tuple[int, str], float]) -> Curve:
    """One run; with a target it ends where it has the loss that is aimed at.

    Args:
        planned: The run.
        learned: The learned influence.
        aims: By seed and target, the loss that uniform has after COMPARED_AT tokens.
    """
    from pool_training import Lab

    from prereq.jobs.config import read_graph, read_influence

    lab, config = Lab(planned.config.pool_dir), planned.config
    influence = learned if planned.learned else read_influence(config.mixer.influence, read_graph(config.graph))
    if planned.target is None:
        skills = lab.arms.skills
        return lab.run(
            config,
            influence,
            reported=skills,
            report_tokens=REPORT_TOKENS,
            from_tokens=0.75 * COMPARED_AT,
            watched=skills,
        )
    wanted, aim = [planned.target], aims[planned.seed, planned.target]
    return lab.run(
        config,
        influence,
        reported=wanted,
        report_tokens=REPORT_TOKENS,
        watched=wanted,
        enough=lambda curve: tokens_to(curve, wanted, aim) is not None,
    )


class Journal:
    """Finished runs in a file of JSON Lines, so that an experiment can be stopped; None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self._known = {entry["key"]: entry["curve"] for entry in map(json.loads, lines)}

    def get(self, key: str) -> "Curve | None":
        """A finished run."""
        return Curve(**self._known[key]) if key in self._known else None

    def add(self, key: str, curve: Curve) -> None:
        """Keep a run."""
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({"key": key, "curve": asdict(curve)}) + "\n")


def run_all(
    plan: Sequence[Planned],
    learned: Influence,
    aims: Mapping[tuple[int, str], float],
    jobs: int,
    journal: Journal,
) -> dict[tuple[str, int], Curve]:
    """The curves by variant and seed; the same for any number of jobs."""
    keys = {(item.variant, item.seed): run_key(item, learned, aims) for item in plan}
    found = {run: journal.get(key) for run, key in keys.items()}
    open_runs = [item for item in plan if found[item.variant, item.seed] is None]
    work = partial(run_one, learned=learned, aims=aims)
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        for item, curve in zip(open_runs, pool.map(work, open_runs), strict=True):
            journal.add(keys[item.variant, item.seed], curve)
            found[item.variant, item.seed] = curve
            last = curve.of(curve.skills)[-1]
            print(
                f"{item.variant} seed {item.seed}: loss {last:.4f} after {curve.tokens[-1]:,} tokens, "
                f"{curve.seconds:.0f} CPU s",
                file=sys.stderr,
                flush=True,
            )
    return {key: curve for key, curve in found.items() if curve is not None}


def run_key(item: Planned, learned: Influence, aims: Mapping[tuple[int, str], float]) -> str:
    """What decides a run, beside the code."""
    settings = {name: value for name, value in item.config.resolved().items() if name not in ("run_dir", "pool_dir")}
    matrix = learned.matrix.tolist() if item.learned else None
    aim = aims[item.seed, item.target] if item.target else None
    return digest({"settings": settings, "influence": matrix, "aim": aim, "report": REPORT_TOKENS})


def inputs_digest(data: Path) -> str:
    """Of the data and of the configurations."""
    files = [data / "documents.jsonl.gz", data / "edges.csv", *sorted(EXPERIMENTS.glob("mixers_dm*.yaml"))]
    return digest({path.name: sha256_hex(path.read_bytes()) for path in files})


# ---------------------------------------------------------------------------------------------- the two sizes


def full(data: Path, pool_dir: str, jobs: int = 1, journal: Path | None = None) -> tuple[Values, dict[str, Any]]:
    """Everything, and the bars."""
    plan, learned, tokens = prepared(data, pool_dir, journal)
    kept, targets = Journal(journal), targets_of(data / "edges.csv")
    seeds = sorted({item.seed for item in plan if item.target is not None})
    uniform = run_all([item for item in plan if item.variant == "uniform"], learned, {}, jobs, kept)
    aims = target_aims(uniform, seeds, targets)
    aimed = run_all([item for item in plan if item.target is not None], learned, aims, jobs, kept)
    others = [item for item in plan if item.target is None and item.variant != "uniform"]
    continual = uniform | run_all(others, learned, aims, jobs, kept)
    tables = continual_tables(continual) | {"target": target_table(aimed, aims)}
    values = {
        "dm_target_token_ratio": tables["target"][TARGET_BAR]["median"],
        "dm_continual_token_ratio": tables["continual"][CONTINUAL_BAR]["ratio_mean"],
        "dm_worst_own_ratio": max(tables["continual"][name]["ratio_mean"] for name in OURS),
    }
    details = tables | {
        "targets": list(targets),
        "aims": [{"seed": seed, "target": target, "loss": loss} for (seed, target), loss in aims.items()],
        "influence": {
            "train": list(learned.train),
            "eval": list(learned.eval),
            "matrix": [[round(entry, 6) for entry in row] for row in learned.matrix.tolist()],
            "tokens": tokens,
        },
        "curves": [
            {"variant": variant, "seed": seed} | asdict(curve) for (variant, seed), curve in (continual | aimed).items()
        ],
        "comparable": checked(data, aimed[f"{TARGET_BAR}-{targets[0]}", seeds[0]], targets[0], aims, learned),
    }
    return values, details


def continual_tables(curves: Mapping[tuple[str, int], Curve]) -> dict[str, Any]:
    """All methods on the bars' seeds, and those that ran on more seeds on all of theirs."""
    more = {variant for variant, seed in curves if seed not in BAR_SEEDS}
    return {
        "continual": continual_table({key: curve for key, curve in curves.items() if key[1] in BAR_SEEDS}),
        "continual_all_seeds": continual_table({key: curve for key, curve in curves.items() if key[0] in more}),
    }


def prepared(data: Path, pool_dir: str, journal: Path | None) -> tuple[list[Planned], Influence, int]:
    """Every run that is to be made, the learned influence, and the tokens that it took to learn it."""
    from prereq.jobs.build import build
    from prereq.jobs.learn import learn
    from prereq.jobs.progress import Progress

    plan = read_plan(data, pool_dir)
    config = base_config(data, pool_dir)
    build(config, Progress())
    out = (journal or Path(pool_dir) / "influence").with_suffix(".parquet")
    kept = journal is not None and out.exists()
    learned = load_influence(out) if kept else learn(config, str(out), Progress())
    step = config.train.windows_per_step * config.train.seq_len
    tokens = config.learn.start_tokens + len(learned.train) * config.learn.steps * step
    return plan, learned, tokens


def base_config(data: Path, pool_dir: str) -> "RunConfig":
    """The configuration that all runs share, and that the influence is learned with."""
    from prereq.jobs.config import load_config

    return moved(load_config(str(EXPERIMENTS / "mixers_dm_base.yaml")), data, pool_dir)


def checked(
    data: Path, curve: Curve, target: str, aims: Mapping[tuple[int, str], float], learned: Influence
) -> dict[str, Any]:
    """What `check` makes again: a target run of the first seed, and what its target's short run does for the target."""
    seed = min(seed for seed, _ in aims)
    found = ratio(curve, [target], aims[seed, target])
    own = learned.matrix[learned.train.index(target), learned.eval.index(target)]
    return comparable(
        inputs_digest(data),
        target_token_ratio=(at_least(found, curve), RATIO_TOLERANCE),
        first_target_loss=(float(curve.of([target])[0]), LOSS_TOLERANCE),
        influence_on_itself=(float(own), INFLUENCE_TOLERANCE),
    )


def check(data: Path, pool_dir: str, stored: Path = RESULTS / "mixers-dm") -> tuple[Values, dict[str, Any]]:
    """One target run and one short run again; nothing where `full` has stored nothing."""
    try:
        past = json.loads((stored / "metrics.json").read_text())["rows"]["dm"]
    except (OSError, KeyError, ValueError):
        return {}, {"comparable": comparable(inputs_digest(data))}  # `compare` says what is missing
    from prereq.jobs.build import build
    from prereq.jobs.progress import Progress
    from prereq.jobs.train.short_runs import LearnedFrom, ShortRuns
    from prereq.selector.rounds.pool import Pool

    config = base_config(data, pool_dir)
    build(config, Progress())
    table, target = past["influence"], past["targets"][0]
    aims = {(entry["seed"], entry["target"]): entry["loss"] for entry in past["aims"]}
    seed = min(seed for seed, _ in aims)
    stored_matrix = Influence(tuple(table["train"]), tuple(table["eval"]), np.array(table["matrix"]))
    plan = read_plan(data, pool_dir)
    wanted = next(item for item in plan if item.variant == f"{TARGET_BAR}-{target}" and item.seed == seed)
    curve = run_one(wanted, stored_matrix, aims)
    pool = Pool(pool_dir)
    source = LearnedFrom(pool=pool, arms=pool.arms(), train=config.train, learn=config.learn, seed=config.seed)
    own = ShortRuns(source).row(target)[target]
    matrix = np.zeros_like(stored_matrix.matrix)
    matrix[stored_matrix.train.index(target), stored_matrix.eval.index(target)] = own
    again = Influence(stored_matrix.train, stored_matrix.eval, matrix)
    return {}, {"comparable": checked(data, curve, target, aims, again)}


def dm_row(size: str) -> tuple[Values, dict[str, Any]]:
    """The row of bench_mixers.py; without the data it is left out, and says so."""
    data = data_folder()
    if data is None:
        print(f"dm: left out: {missing()}", file=sys.stderr)
        return {}, {"left_out": missing()}
    return (full if size == "full" else check)(data, "pools/mixers-dm")


def data_folder() -> Path | None:
    """Where the data lie, or None."""
    root = Path(os.environ.get("PREREQ_DATA") or REPOSITORY.parent / "shared" / "data").resolve()
    folder = root / "dm_mathematics"
    return folder if (folder / "documents.jsonl.gz").is_file() and (folder / "edges.csv").is_file() else None


def missing() -> str:
    """Why there is nothing to do."""
    return "no dm_mathematics (documents.jsonl.gz, edges.csv) in $PREREQ_DATA or ../shared/data"


def main(arguments: list[str] | None = None) -> int:
    """Run and write the three files; 1 when a bar is missed or a check differs, 2 without data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=("check", "full"), default="check")
    parser.add_argument("--pool", default="pools/mixers-dm", help="folder of the pool")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; changes no number")
    parser.add_argument("--journal", type=Path, help="keep finished runs here, and go on from it")
    options = parser.parse_args(arguments)
    data = data_folder()
    if data is None:
        print(f"mixers_dm: {missing()}", file=sys.stderr)
        return 2
    if options.size == "full":
        values, details = full(data, options.pool, options.jobs, options.journal)
    else:
        values, details = check(data, options.pool)
    metrics: dict[str, Any] = {"bars": bars("mixers", values), "rows": {"dm": details}}
    agrees = True
    if options.size == "check":
        metrics["compared"] = {"dm": compare("dm", details["comparable"])}
        say("dm", metrics["compared"]["dm"])
        agrees = metrics["compared"]["dm"]["agrees"]
    params = {"size": options.size, "compared_at": COMPARED_AT, "report_tokens": REPORT_TOKENS}
    params["inputs"] = inputs_digest(data)
    return max(record(options.out, params, metrics), int(not agrees))


if __name__ == "__main__":
    sys.exit(main())
