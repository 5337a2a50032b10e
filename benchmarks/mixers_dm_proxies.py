"""How far a fixed mixture gets: proxy runs on random mixtures of the 56 skills of `dm_mathematics`, and what is solved.

    python benchmarks/mixers_dm_proxies.py --out DIR --write configs/experiments/mixers_dm_solved.yaml
        [--journal FILE]

Run it in the repository's root, with the data where mixers_dm.py looks for them. One run of COMPARED_AT tokens on
uniform and RUNS on mixtures that are half uniform and half one that `prereq solve --propose` would try around uniform,
all on seed SEED, judged on the control split alone. From what they drew and came to, the solvers of `prereq solve` make
one mixture each, and so does the law of `own_share`. --write puts these into a sweep, which mixers_dm.py runs on other
seeds and judges on the report split. The Data Mixing Laws are solved with Olmix' penalty alone: without it they put a
quarter of the tokens on one skill.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mixers_dm import Journal, base_config, data_folder, missing
from pool_training import Lab
from recording import record
from token_ratios import COMPARED_AT, Curve, FloatArray

from prereq.graph.canonical import digest
from prereq.jobs.build import build
from prereq.jobs.config import RunConfig, make_config
from prereq.jobs.progress import Progress
from prereq.selector.mixers.law_fit import fit_mixing_laws
from prereq.selector.mixers.olmix import OlmixConfig, best_mixture
from prereq.selector.mixers.proposals import propose_mixtures
from prereq.selector.mixers.regression import RegressionConfig, fit_regression
from prereq.selector.mixers.search import regmix

RUNS, SEED = 30, 100  # the proposals have fifteen strengths: twice each
TRIED = ("own_share", "regmix_trees")  # of the solved mixtures, on fresh seeds
FRESH = range(7)  # seeds of the runs on what was found
LEAST_SLOPE = 0.02  # nats per nat of share: no skill goes without documents
HEADER = """# Fixed mixtures solved from proxy runs, on fresh seeds; benchmarks/mixers_dm_proxies.py writes this file.
"""


def mixtures_to_try(skills: int) -> FloatArray:
    """`(1 + RUNS, skills)`: uniform, and RUNS that are half uniform, so that no skill is ever without documents."""
    uniform = np.full(skills, 1.0 / skills)
    return np.vstack([uniform, 0.5 * uniform + 0.5 * propose_mixtures(uniform, RUNS, SEED)])


def static(config: RunConfig, skills: Sequence[str], mixture: FloatArray) -> RunConfig:
    """A proxy run's configuration."""
    settings = config.resolved()
    weights = {skill: round(float(share), 6) for skill, share in zip(skills, mixture, strict=True)}
    settings["mixer"] = {"name": "static", "parameters": {"skills": weights}}
    settings |= {"seed": SEED, "tokens": COMPARED_AT, "train": settings["train"] | {"seed": SEED}}
    return make_config(settings, "mixers_dm_proxies")


def run_proxies(lab: Lab, config: RunConfig, journal: Journal) -> list[Curve]:
    """All proxy runs; those in the journal are not made again."""
    curves = []
    for number, mixture in enumerate(mixtures_to_try(len(lab.arms.skills))):
        proxy = static(config, lab.arms.skills, mixture)
        settings = {name: value for name, value in proxy.resolved().items() if name not in ("run_dir", "pool_dir")}
        key = digest({"settings": settings, "judged": "control"})
        curve = journal.get(key)
        if curve is None:
            wanted = lab.arms.skills
            seen = proxy.train.eval_tokens_per_skill
            curve = lab.run(proxy, None, reported=wanted, report_tokens=seen, watched=wanted, judged="control")
            journal.add(key, curve)
            print(f"proxy {number}: {np.mean(curve.losses[-1]):.4f}, {curve.seconds:.0f} CPU s", file=sys.stderr)
        curves.append(curve)
    return curves


def own_share(mixtures: FloatArray, losses: FloatArray) -> FloatArray:
    """The best mixture under a law in which a skill's loss depends on its own share alone.

    L_i = c_i - b_i log p_i, by least squares over the runs; the lowest sum is then at p in proportion to b. The law
    has 2 parameters per skill, where the other laws have a slope for each pair of skills.
    """
    slopes = [-np.polyfit(np.log(mixtures[:, i]), losses[:, i], 1)[0] for i in range(mixtures.shape[1])]
    kept = np.maximum(slopes, LEAST_SLOPE)
    return kept / kept.sum()


def solve_all(mixtures: FloatArray, losses: FloatArray) -> dict[str, FloatArray]:
    """One mixture by each solver, around uniform."""
    prior = np.full(mixtures.shape[1], 1.0 / mixtures.shape[1])
    laws = fit_mixing_laws(mixtures, losses)
    trees = fit_regression(mixtures, losses, RegressionConfig(seed=0))
    return {
        "own_share": own_share(mixtures, losses),
        "regmix_trees": regmix(trees, prior),
        "olmix": best_mixture(laws, prior, penalty=OlmixConfig().penalty),
    }


def write_sweep(path: Path, skills: Sequence[str], found: dict[str, FloatArray]) -> None:
    """A sweep over the solved mixtures on fresh seeds."""
    runs = {
        name: {"mixer.name": "static", "mixer.parameters": shares(skills, mixture)} for name, mixture in found.items()
    }
    value = {"base": "mixers_dm_base.yaml", "output": "runs/mixers-dm-solved", "seeds": list(FRESH), "runs": runs}
    path.write_text(HEADER + yaml.safe_dump(value, sort_keys=False, width=120), encoding="utf-8")


def shares(skills: Sequence[str], mixture: FloatArray) -> dict[str, Any]:
    """Parameters of the mixer `static`."""
    return {"skills": {skill: round(float(share), 5) for skill, share in zip(skills, mixture, strict=True)}}


def told(
    skills: Sequence[str], mixtures: FloatArray, losses: FloatArray, found: dict[str, FloatArray]
) -> dict[str, Any]:
    """What is kept: the runs, and for each solver's mixture how far it is from uniform."""
    means = losses.mean(axis=1)
    return {
        "skills": list(skills),
        "mixtures": np.round(mixtures, 6).tolist(),
        "losses": np.round(losses, 6).tolist(),
        "mean_loss": {"uniform": float(means[0]), "lowest": float(means.min()), "highest": float(means.max())},
        "found": {
            name: {
                "shares": np.round(p, 5).tolist(),
                "smallest": float(p.min()),
                "largest": float(p.max()),
                "nats_from_uniform": from_uniform(p),
            }
            for name, p in found.items()
        },
    }


def from_uniform(mixture: FloatArray) -> float:
    """KL divergence of a mixture from uniform, in nats."""
    positive = mixture[mixture > 0]
    return float((positive * np.log(positive * len(mixture))).sum())


def main(arguments: list[str] | None = None) -> int:
    """Run the proxies, solve, and write the sweep and the record; 2 without data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--write", type=Path, required=True, help="the sweep over what was found")
    parser.add_argument("--pool", default="pools/mixers-dm", help="folder of the pool")
    parser.add_argument("--journal", type=Path, help="keep finished runs here, and go on from it")
    options = parser.parse_args(arguments)
    data = data_folder()
    if data is None:
        print(f"mixers_dm_proxies: {missing()}", file=sys.stderr)
        return 2
    config = base_config(data, options.pool)
    build(config, Progress())
    lab = Lab(options.pool)
    curves = run_proxies(lab, config, Journal(options.journal))
    skills = lab.arms.skills
    mixtures = np.array([[curve.mixture[skill] for skill in skills] for curve in curves])
    losses = np.array([curve.losses[-1] for curve in curves])
    found = solve_all(mixtures, losses)
    write_sweep(options.write, skills, {name: found[name] for name in TRIED})
    params = {"runs": RUNS, "seed": SEED, "tokens": COMPARED_AT, "split": "control"}
    return record(options.out, params, {"bars": [], "rows": {"proxies": told(skills, mixtures, losses, found)}})


if __name__ == "__main__":
    sys.exit(main())
