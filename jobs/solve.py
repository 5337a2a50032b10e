"""`prereq solve`: from proxy runs to a static mixture, by RegMix, Data Mixing Laws, Olmix or CLIMB.

    prereq solve my.yaml --propose 64 --out proxies.yaml      # a sweep over 64 mixtures around the pool's own
    prereq sweep proxies.yaml
    prereq solve runs/proxies --method regmix --out best.yaml  # a whole configuration, mixer: static
    prereq run best.yaml

CLIMB asks for more runs in between: `prereq solve runs/proxies --method climb --propose 32 --out more.yaml`, and then
`prereq solve runs/proxies runs/more --method climb`. Losses are those of the control split: the report split judges.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from prereq.graph.errors import ConfigError
from prereq.jobs.config import load_config
from prereq.selector.mixers.law_fit import fit_mixing_laws
from prereq.selector.mixers.olmix import OlmixConfig, best_mixture, repetition_caps
from prereq.selector.mixers.proposals import propose_mixtures
from prereq.selector.mixers.protocol import Arms
from prereq.selector.mixers.regression import RegressionConfig, fit_regression
from prereq.selector.mixers.search import climb_best, next_runs, regmix
from prereq.selector.mixers.simplex import FloatArray
from prereq.selector.rounds.manifest import read_chain
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import read_run
from prereq.selector.storage import Folder

METHODS = ("regmix", "laws", "olmix", "climb")
_SHOWN = 8  # parts of a mixture that are printed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proxies:
    """What the finished runs of some sweeps say.

    Attributes:
        arms: Of the pool that all runs share.
        mixtures: `(r, n)`, shares of tokens that each run really drew per arm.
        losses: `(r, m)`, last loss on the control split, nats per token.
        skills: m ids.
        config: Of the first run, as a configuration file holds it.
    """

    arms: Arms
    mixtures: FloatArray
    losses: FloatArray
    skills: tuple[str, ...]
    config: dict[str, Any]


def read_proxies(folders: Sequence[str]) -> Proxies:
    """Collect the finished runs of sweeps.

    Args:
        folders: Output folders of sweeps, each with run folders in it.

    Raises:
        ConfigError: A folder holds no finished run, or runs are over different pools.
    """
    runs = [run for folder in folders for run in _finished(folder)]
    info = read_run(runs[0])
    if info is None:
        raise ConfigError(f"{runs[0].name}: run.json has gone; restore it")
    pools = {str(getattr(read_run(run), "pool", None)): run.name for run in runs}
    if len(pools) > 1:
        raise ConfigError(f"solve: the runs {', '.join(sorted(pools.values()))} are over different pools; solve apart")
    arms = Pool(info.pool_path).arms()
    finals = [json.loads(run.read("train/final.json"))["control"]["final"]["losses"] for run in runs]
    skills = tuple(sorted(s for s in finals[0] if all(final.get(s) is not None for final in finals)))
    if not skills:
        raise ConfigError("solve: no skill has a control loss in every run; build the pool with a larger holdout")
    return Proxies(
        arms=arms,
        mixtures=np.array([_realised(run, arms) for run in runs]),
        losses=np.array([[final[skill] for skill in skills] for final in finals]),
        skills=skills,
        config=yaml.safe_load(runs[0].read("config.yaml")),
    )


def _finished(folder: str) -> list[Folder]:
    names = sorted(path.name for path in Path(folder).iterdir() if path.is_dir()) if Path(folder).is_dir() else []
    runs = [Folder(f"{folder}/{name}") for name in names]
    runs = [run for run in runs if run.exists("train/final.json") and run.exists("config.yaml")]
    if not runs:
        raise ConfigError(f"{folder}: holds no finished run of a sweep; run `prereq sweep` first, give its output here")
    return runs


def _realised(run: Folder, arms: Arms) -> FloatArray:
    index = {arm: place for place, arm in enumerate(arms.ids)}
    tokens = np.zeros(len(arms.ids))
    for manifest in read_chain(run):
        for arm, amount in manifest.realised.items():
            tokens[index[arm]] += amount
    return tokens / tokens.sum()


def solve(
    proxies: Proxies, method: str, *, seed: int = 0, regressor: str = "lightgbm", tokens: float | None = None
) -> FloatArray:
    """The best mixture over the arms `(n,)` by one method.

    Args:
        proxies: The runs.
        method: One of METHODS.
        seed: Of what is simulated.
        regressor: Of regmix and climb.
        tokens: That the mixture is for: no arm is repeated more than four times in them; none: no caps (laws never
            has caps).
    """
    prior = proxies.arms.proportions
    caps = (
        None
        if tokens is None
        else np.minimum(repetition_caps(proxies.arms.tokens.astype(np.float64), tokens, OlmixConfig().repeats), 1)
    )
    regression = RegressionConfig(regressor="linear" if regressor == "linear" else "lightgbm", seed=seed)
    if method == "regmix":
        predict = fit_regression(proxies.mixtures, proxies.losses, regression)
        return regmix(predict, prior, seed=seed, caps=caps)
    if method == "climb":
        return climb_best(proxies.mixtures, proxies.losses, prior, seed=seed, caps=caps, config=_climb(regressor, seed))
    laws = fit_mixing_laws(proxies.mixtures, proxies.losses)
    if method == "laws":
        return best_mixture(laws, prior, penalty=0.0)
    return best_mixture(laws, prior, caps, penalty=OlmixConfig().penalty)


def _climb(regressor: str, seed: int) -> RegressionConfig:
    if regressor == "linear":
        return RegressionConfig(regressor="linear")
    return RegressionConfig(depth=4, leaf=5, patience=20, seed=seed)


def main_solve(args: argparse.Namespace) -> int:
    """The verb."""
    if not Path(args.sources[0]).is_dir():
        if args.propose is None or len(args.sources) > 1:
            raise ConfigError(f"solve {args.sources[0]}: a configuration is for --propose N; to solve, name sweeps")
        config = load_config(args.sources[0], args.set)
        arms = Pool(config.pool_dir).arms()
        mixtures = propose_mixtures(arms.proportions, args.propose, args.seed)
        return _write(args, _sweep(args, config.resolved(), arms, mixtures), f"{len(mixtures)} runs to try")
    if args.set:
        raise ConfigError(f"--set {args.set[0]}: the runs of a sweep have their configuration; leave --set out")
    proxies = read_proxies(args.sources)
    if args.propose is not None:
        if args.method != "climb":
            raise ConfigError(f"--propose with --method {args.method}: only climb asks for further runs")
        mixtures = next_runs(
            proxies.mixtures,
            proxies.losses,
            proxies.arms.proportions,
            args.propose,
            seed=args.seed,
            config=_climb(args.regressor, args.seed),
        )
        return _write(args, _sweep(args, proxies.config, proxies.arms, mixtures), f"{len(mixtures)} runs to try")
    best = solve(proxies, args.method, seed=args.seed, regressor=args.regressor, tokens=args.tokens)
    print(_told(proxies, best))
    parameters = {"arms": _weights(proxies.arms, best)}
    stem = Path(args.out).stem
    solved = proxies.config | {
        "run_dir": str(Path(proxies.config["run_dir"]).parent / stem),
        "mixer": {"name": "static", "parameters": parameters},
    }
    return _write(args, solved, f"mixer: static, by {args.method} from {len(proxies.mixtures)} runs")


def _sweep(args: argparse.Namespace, config: dict[str, Any], arms: Arms, mixtures: FloatArray) -> dict[str, Any]:
    """A sweep file over mixtures, and beside it the configuration that it changes."""
    out = Path(args.out)
    base = out.with_name(f"{out.stem}.base.yaml")
    base.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    runs = {
        f"mix-{index:04d}": {"mixer.name": "static", "mixer.parameters": {"arms": _weights(arms, mixture)}}
        for index, mixture in enumerate(mixtures)
    }
    return {"base": base.name, "output": args.output or f"runs/{out.stem}", "seeds": [args.seed], "runs": runs}


def _weights(arms: Arms, mixture: FloatArray) -> dict[str, float]:
    return {arm: round(float(weight), 8) for arm, weight in zip(arms.ids, mixture, strict=True) if weight >= 5e-9}


def _told(proxies: Proxies, best: FloatArray) -> str:
    """The mixture beside the corpus's own, largest parts first, and the best run that was tried."""
    prior, means = proxies.arms.proportions, proxies.losses.mean(axis=1)
    lines = [f"{'arm':<20} {'corpus':>8} {'solved':>8}"]
    lines += [
        f"{proxies.arms.ids[place]:<20} {prior[place]:>8.2%} {best[place]:>8.2%}"
        for place in np.argsort(-best, kind="stable")[:_SHOWN].tolist()
    ]
    lines.append(
        f"{len(means)} runs, {len(proxies.skills)} skills: mean control loss {means.min():.4f} (best run) to "
        f"{means.max():.4f} nats per token"
    )
    advised = 3 * (len(proxies.arms.ids) + 1)
    if len(means) < advised:
        lines.append(f"{advised} runs or more are advised for {len(proxies.arms.ids)} arms: take this as a guess")
    return "\n".join(lines)


def _write(args: argparse.Namespace, value: dict[str, Any], what: str) -> int:
    if args.dry_run:
        print(f"would write {args.out}: {what}")
        return 0
    Path(args.out).write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")
    print(f"{args.out}: {what}")
    return 0
