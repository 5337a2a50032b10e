"""Three-digit addition: steps until a target digit is learned, with and without a prerequisite digit in the mixture.

A skill is a digit of the sum, 0 the ones; a text asks for one digit. The bar's setting is the paper's: target ones,
prerequisite tens (its graph `[1, 0] [.5, 1]`, target column 0). Two more settings are reported beside it: tens with the
prerequisite ones, which the carry makes a true one; and the bar's setting from a model that was first trained to
copy digits out of such texts, in place of the paper's pretrained model. The numbers are in
configs/experiments/addition.yaml.

    python benchmarks/mixers_addition.py ones_after_tens stratified 100 101    some runs alone, as they were tuned

With ADDITION_RUNS=DIR in the environment a finished run is kept there and read by the next program that has the same
configuration and code, so that a full row can be stopped and go on, or be shared by several processes.

Source:
    Chen et al. 2023, "Skill-it!", arXiv:2307.14430, sections 2.3 and 4.2, appendix C. Departures: a small model that
    predicts the answer alone, a constant learning rate, and steps in proportion to what this model needs.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from comparison import comparable, interval

from prereq.graph.canonical import digest
from prereq.graph.influence import Influence
from prereq.graph.load import write_whole
from prereq.selector.mixers import Arms, Mixer, make_mixer

if TYPE_CHECKING:
    import torch
    from mixer_loop import Curve, Schedule

IntArray = np.ndarray
CONFIG = Path(__file__).parents[1] / "configs" / "experiments" / "addition.yaml"
WORDS = ("Input:", "A", "=", "+", "<", ">", ",", "?", "Output:", *"0123456789")
CODES = {word: code for code, word in enumerate(WORDS)}
FRAME = "Input: A = 0 0 0 + 0 0 0 , A 0 = ? Output: 0"
LARGEST = 999  # exclusive, as in the released code: 999 + 999 never occurs
LENGTH = 16  # words before the answer
DIGITS = {"ones": 0, "tens": 1, "hundreds": 2}
METHODS = ("target_only", "stratified", "skill_it", "skill_bandit")
BAR = ("ones_after_tens", "skill_it")
# The same machine gives the same bits. Another processor rounds differently: that moves the first losses little and,
# after some hundred steps, when exactly the threshold is passed.
LOSS_TOLERANCE, STEPS_TOLERANCE = 0.01, 0.25

# ---------------------------------------------------------------------------------------------- texts


def questions(first: IntArray, second: IntArray, digits: IntArray, sign: str = "+") -> IntArray:
    """Texts as word codes, answer last: `Input: A = 1 0 6 + 0 7 1 , A 0 = ? Output: 7`.

    Args:
        first: `(n,)`, operands of at most three digits.
        second: `(n,)`.
        digits: `(n,)`, which digit is asked for, 0 the ones.
        sign: `+` asks for the sum's digit, `<` for the first operand's, `>` for the second's.

    Returns:
        int64 `(n, 17)`.

    Raises:
        ValueError: An operand or a digit out of range, or another sign.
    """
    if not all(((part >= 0) & (part < 1000)).all() for part in (first, second)) or not np.isin(digits, (0, 1, 2)).all():
        raise ValueError("operands must be 0 to 999 and digits 0 to 2")
    asked = {"+": first + second, "<": first, ">": second}
    if sign not in asked:
        raise ValueError(f"sign {sign!r}: expected one of + < >")
    texts = np.tile(np.array([CODES[word] for word in FRAME.split()]), (len(first), 1))
    texts[:, 6] = CODES[sign]
    for place in range(3):  # the leftmost digit is the hundreds
        texts[:, 3 + place] += first // 10 ** (2 - place) % 10
        texts[:, 7 + place] += second // 10 ** (2 - place) % 10
    texts[:, 12] += digits
    texts[:, 16] += asked[sign] // 10**digits % 10
    return texts


def random_questions(digits: IntArray, rng: np.random.Generator, sign: str = "+") -> IntArray:
    """A question per entry of `digits`, operands uniform in 0 to 998."""
    first, second = rng.integers(0, LARGEST, (2, len(digits)))
    return questions(first, second, digits, sign)


# ---------------------------------------------------------------------------------------------- one run


def methods(config: Mapping[str, Any], name: str) -> Sequence[str]:
    """Methods that a setting is run with: all, unless it names its own."""
    return config["settings"][name].get("methods", METHODS)


def make(method: str, setting: Mapping[str, Any], config: Mapping[str, Any], arms: Arms) -> Mixer:
    """The mixer of a method; both that read a graph get the paper's: 1 for the target, `influence` for the other."""
    target = setting["target"]
    if method == "target_only":
        return make_mixer("static", {"skills": {target: 1.0}}, arms, None)
    if method == "stratified":
        return make_mixer("uniform", {}, arms, None)
    weights = [[1.0 if skill == target else float(config["influence"])] for skill in arms.ids]
    return make_mixer(method, config["mixers"][method], arms, Influence(arms.ids, (target,), np.array(weights)))


def _validation(config: Mapping[str, Any], skills: Sequence[str]) -> "dict[str, torch.Tensor]":
    import torch

    size, sets = config["validation"], {}
    for skill in skills:
        digits = np.full(size, DIGITS[skill])
        sets[skill] = torch.from_numpy(random_questions(digits, np.random.default_rng([42, DIGITS[skill]])))
    return sets


def _model(config: Mapping[str, Any], seed: int) -> "torch.nn.Module":
    from tiny_model import TinyConfig, TinyTransformer

    return TinyTransformer(TinyConfig(vocabulary=len(WORDS), length=LENGTH, **config["model"]), seed)


@cache
def _retrieval_start(settings: str) -> "dict[str, torch.Tensor]":
    """Weights after training on copying digits of either operand; the same for every method and seed."""
    import torch
    from mixer_loop import Schedule, train_in_rounds

    config = yaml.safe_load(settings)
    wanted = config["retrieval"]
    schedule = Schedule(**(config["schedule"] | {"rounds": 1, "steps": wanted["steps"]}))
    model, arms = _model(config, wanted["seed"]), Arms.of_skills(("<", ">"))

    def draw(picked: IntArray, rng: np.random.Generator) -> "torch.Tensor":
        texts = random_questions(rng.integers(0, 2, len(picked)), rng, "<")
        other = random_questions(rng.integers(0, 2, len(picked)), rng, ">")
        return torch.from_numpy(np.where(picked[:, None] == 0, texts, other))

    digits = np.arange(config["validation"]) % 2
    rng = np.random.default_rng([42, 9])
    validation = {sign: torch.from_numpy(random_questions(digits, rng, sign)) for sign in arms.ids}
    mixer = make_mixer("uniform", {}, arms, None)
    curve = train_in_rounds(
        model, mixer, arms, draw, validation, schedule, reports=(), seed=wanted["seed"], done=lambda _, __: False
    )
    _say(f"retrieval start: losses {_rounded(curve.losses[-1])} after {curve.steps[-1]} steps")
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def run(config: Mapping[str, Any], name: str, method: str, seed: int) -> dict[str, Any]:
    """One training: steps until the threshold (None: not within the budget), losses on the way, mixtures."""
    folder = os.environ.get("ADDITION_RUNS")
    if not folder:
        return _run(config, name, method, seed)
    path, inputs = Path(folder) / f"{name}-{method}-{seed}.json", digest([dict(config), _code()])
    if path.exists() and (kept := json.loads(path.read_text()))["inputs"] == inputs:
        return kept["run"]
    found = _run(config, name, method, seed)
    write_whole(path, json.dumps({"inputs": inputs, "run": found}).encode())
    return found


def _code() -> list[str]:
    files = (Path(__file__).parent / name for name in ("mixers_addition.py", "mixer_loop.py", "tiny_model.py"))
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def _run(config: Mapping[str, Any], name: str, method: str, seed: int) -> dict[str, Any]:
    import torch
    from mixer_loop import Schedule, train_in_rounds

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, and nothing here reads unwritten memory
    setting = config["settings"][name]
    target, schedule = setting["target"], Schedule(**config["schedule"])
    model = _model(config, seed)
    if setting["start"] == "retrieval":
        model.load_state_dict(_retrieval_start(yaml.safe_dump(dict(config))))
    arms = Arms.of_skills((target, setting["prerequisite"]))
    places = np.array([DIGITS[skill] for skill in arms.ids])

    def draw(picked: IntArray, rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(random_questions(places[picked], rng))

    def done(step: int, losses: Mapping[str, float]) -> bool:
        if step % (10 * schedule.evaluate_every) == 0:
            _say(f"{name} {method} seed {seed}: step {step}, {_rounded(losses)}")
        return losses[target] <= config["threshold"]

    began = time.process_time()
    validation = _validation(config, arms.ids)
    mixer = make(method, setting, config, arms)
    curve = train_in_rounds(model, mixer, arms, draw, validation, schedule, reports=(target,), seed=seed, done=done)
    return _kept(curve, target, arms, schedule, config["threshold"]) | {"cpu_seconds": time.process_time() - began}


def _kept(curve: "Curve", target: str, arms: Arms, schedule: "Schedule", threshold: float) -> dict[str, Any]:
    steps = curve.steps_until(target, threshold)
    last, place = curve.steps[-1] if steps is None else steps, arms.ids.index(target)
    spent = [max(0, min(schedule.steps, last - number * schedule.steps)) for number in range(len(curve.mixtures))]
    return {
        "steps": steps,
        "target_samples": schedule.batch * sum(n * mix[place] for n, mix in zip(spent, curve.mixtures, strict=True)),
        "budget": schedule.rounds * schedule.steps,
        "evaluated_at": curve.steps,
        "losses": {skill: [round(losses[skill], 5) for losses in curve.losses] for skill in arms.ids},
        "mixtures": [dict(zip(arms.ids, mixture, strict=True)) for mixture in curve.mixtures],
    }


def _rounded(losses: Mapping[str, float]) -> str:
    return " ".join(f"{skill} {loss:.3f}" for skill, loss in losses.items())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------- the row


def saved(runs: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Share of the baseline's steps that a method saves, paired by seed; negative where it takes more.

    A run that does not reach the threshold counts with its budget: what it saves is then at most what is stated, and
    with an unfinished baseline at least that.
    """
    shares = [1.0 - _counted(ours) / _counted(theirs) for ours, theirs in zip(runs, baseline, strict=True)]
    mean, around = interval(shares)
    return {
        "by_seed": shares,
        "mean": mean,
        "interval_95": around,
        "unfinished": sum(ours["steps"] is None for ours in runs),
        "unfinished_baseline": sum(theirs["steps"] is None for theirs in baseline),
    }


def _counted(one: Mapping[str, Any]) -> int:
    return one["budget"] if one["steps"] is None else one["steps"]


def inputs_digest(config: Mapping[str, Any]) -> str:
    """Of the configuration and of the texts that the generator makes from it."""
    texts = {skill: sets.tolist() for skill, sets in _validation(config, tuple(DIGITS)).items()}
    return digest({"config": dict(config), "words": list(WORDS), "texts": texts})


def addition_row(size: str) -> tuple[dict[str, float], dict[str, Any]]:
    """The issue's row 2; `check` makes the bar's run of the first seed again and answers no bar."""
    config = yaml.safe_load(CONFIG.read_text())
    seeds = config["seeds"] if size == "full" else config["seeds"][:1]
    every = [(name, method) for name in config["settings"] for method in methods(config, name)]
    wanted = every if size == "full" else [BAR]
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, method in wanted:
        found = [run(config, name, method, seed) for seed in seeds]
        runs.setdefault(name, {})[method] = found
        _say(f"{name} {method}: {[one['steps'] for one in found]} steps")
    details: dict[str, Any] = {"config": config, "comparable": _comparable(config, runs[BAR[0]][BAR[1]][0])}
    if size != "full":
        return {}, details | {"runs": runs}
    tables = {
        name: {method: saved(found, by_method["target_only"]) for method, found in by_method.items()}
        for name, by_method in runs.items()
    }
    values = {"addition_steps_saved": tables[BAR[0]][BAR[1]]["mean"]}
    return values, details | {"saved": tables, "runs": runs}


def _comparable(config: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    target = config["settings"][BAR[0]]["target"]
    return comparable(
        inputs_digest(config),
        untrained_loss=(first["losses"][target][0], LOSS_TOLERANCE),
        early_loss=(first["losses"][target][1], LOSS_TOLERANCE),
        steps=(_counted(first), STEPS_TOLERANCE),
    )


if __name__ == "__main__":
    for chosen in sys.argv[3:]:
        outcome = run(yaml.safe_load(CONFIG.read_text()), sys.argv[1], sys.argv[2], int(chosen))
        print(*sys.argv[1:3], chosen, outcome["steps"], f"{outcome['cpu_seconds']:.0f} s")
