"""Regression from mixtures to losses, fitted to proxy runs: boosted trees (LightGBM), or a straight line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from prereq.graph.errors import ConfigError, PrereqError
from prereq.selector.mixers.parameters import check_choice, check_number, check_whole
from prereq.selector.mixers.simplex import FloatArray

Predictor = Callable[[FloatArray], FloatArray]
"""Mixtures `(r, k)` -> predicted losses `(r, m)`, nats per token."""

Regressor = Literal["lightgbm", "linear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionConfig:
    """How losses are predicted; the defaults are RegMix's."""

    # lightgbm: boosted trees (extra [solvers]); linear: least squares, RegMix's simpler variant
    regressor: Regressor = "lightgbm"
    # step of the boosting
    learning_rate: float = 0.01
    # trees at most
    iterations: int = 1000
    # iterations without a better validation loss that end the fit
    patience: int = 3
    # deepest tree; -1: no limit
    depth: int = -1
    # runs in a leaf at least
    leaf: int = 5
    # share of the runs that only decide when to stop
    validation: float = 0.1
    # of the split
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        check_choice("regressor", self.regressor, ("lightgbm", "linear"))
        check_number("learning_rate", self.learning_rate, low=1e-6, high=1.0)
        check_number("validation", self.validation, low=0.0, high=0.5)
        for name in ("iterations", "patience", "leaf"):
            check_whole(name, getattr(self, name), low=1)


CLIMB_TREES = RegressionConfig(depth=4, leaf=5, patience=20)
"""The predictor of CLIMB: shallow trees, early stopping after 20."""


def fit_regression(mixtures: FloatArray, losses: FloatArray, config: RegressionConfig | None = None) -> Predictor:
    """One regression per evaluated group.

    Args:
        mixtures: `(r, k)`, row = proxy run, on the simplex.
        losses: `(r, m)`, nats per token.
        config: The regression.

    Raises:
        ConfigError: Fewer than two runs, or numbers that are not finite.
        PrereqError: LightGBM is not installed.
    """
    config = config or RegressionConfig()
    runs, targets = np.asarray(mixtures, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if runs.ndim != 2 or targets.ndim != 2 or len(runs) != len(targets) or len(runs) < 2:
        raise ConfigError(f"regression: mixtures {runs.shape}, losses {targets.shape}; expected two runs or more")
    if not (np.isfinite(runs).all() and np.isfinite(targets).all()):
        raise ConfigError("regression: a mixture or a loss is not finite")
    if config.regressor == "linear":
        return _linear(runs, targets)
    trees = [_trees(runs, targets[:, group], config) for group in range(targets.shape[1])]

    def predict(wanted: FloatArray) -> FloatArray:
        return np.column_stack([tree.predict(wanted, num_threads=1) for tree in trees]).astype(np.float64)

    return predict


def _linear(runs: FloatArray, targets: FloatArray) -> Predictor:
    # mixtures sum to 1, so the constant is among the columns already
    slopes = np.linalg.lstsq(runs, targets, rcond=None)[0]

    def predict(wanted: FloatArray) -> FloatArray:
        predicted: FloatArray = wanted @ slopes
        return predicted

    return predict


def _trees(runs: FloatArray, target: FloatArray, config: RegressionConfig) -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise PrereqError(
            "this needs lightgbm, which is not installed: pip install 'prereq[solvers]', or set regressor: linear"
        ) from error
    order = np.random.default_rng([config.seed, len(runs)]).permutation(len(runs))
    held = order[: int(config.validation * len(runs))]
    kept = np.sort(order[len(held) :])
    parameters = {
        "objective": "regression",
        "learning_rate": config.learning_rate,
        "max_depth": config.depth,
        "num_leaves": 2**config.depth if config.depth > 0 else 31,
        "min_data_in_leaf": min(config.leaf, max(1, len(kept) // 4)),
        "min_data_in_bin": 1,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    known = lightgbm.Dataset(runs[kept], target[kept], params={"verbosity": -1})
    if not len(held):
        return lightgbm.train(parameters, known, config.iterations)
    return lightgbm.train(
        parameters,
        known,
        config.iterations,
        valid_sets=[known.create_valid(runs[held], target[held])],
        callbacks=[lightgbm.early_stopping(config.patience, verbose=False)],
    )
