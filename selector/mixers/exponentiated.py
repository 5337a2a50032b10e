"""The exponentiated-gradient core: p in proportion to base * exp(eta * signal), in log space. Mixers bring the signal.

Everything online here (Skill-It, and later Aioli, DoReMi, Velocitune, ...) is this step with another signal, another
base (uniform, token shares, the previous mixture) and another reduction over past losses.
"""

from collections.abc import Mapping

import numpy as np

from prereq.selector.mixers.simplex import BoolArray, FloatArray, logit_range, softmax

LOGIT_RANGE_WARNING = 5.0
"""Nats between the best and the worst arm's signal above which the mixture is nearly one-hot (e^5 = 148)."""


def log_weights(weights: FloatArray) -> FloatArray:
    """Natural logs `(n,)` of weights; a weight of 0 becomes -inf, which the step keeps at exactly 0."""
    with np.errstate(divide="ignore"):
        return np.log(weights)


def step(log_base: FloatArray, signal: FloatArray, learning_rate: float, *, floor: float = 0.0) -> FloatArray:
    """One mixture: base * exp(learning_rate * signal), normalised, then mixed with the base by `floor`.

    Args:
        log_base: Log weights `(n,)`, need not be normalised; -inf is an arm that must stay at exactly 0.
        signal: `(n,)`, finite; how much an arm is wanted, in the units that the learning rate is meant for.
        learning_rate: eta >= 0, per unit of signal.
        floor: c in [0, 1): p = (1 - c) * p + c * base. Mixing with the base rather than with 1/n keeps the mixture
            independent of how finely the data are cut into arms; from a uniform base it is c/n.

    Returns:
        Weights `(n,)` on the simplex. Arms of equal base and signal get equal bits.

    Raises:
        ValueError: No arm has a base weight, or a signal is not finite.

    Source:
        Chen et al. 2023, "Skill-it!", arXiv:2307.14430, section 3.2; the max shift and the floor are ours.
    """
    if not np.isfinite(signal).all():
        raise ValueError("exponentiated step: the signal overflowed or is NaN")
    weights = softmax(log_base + _shifted(log_base, signal, learning_rate))
    if floor == 0.0:
        return weights
    return (1.0 - floor) * weights + floor * softmax(log_base)


def step_range(log_base: FloatArray, signal: FloatArray, learning_rate: float) -> float:
    """Range (nats) of learning_rate * signal over the arms that may be drawn: the sharpness that a step adds."""
    open_arms: BoolArray = np.isfinite(log_base)
    return logit_range(_shifted(log_base, signal, learning_rate)[open_arms])


def _shifted(log_base: FloatArray, signal: FloatArray, learning_rate: float) -> FloatArray:
    # shift before scaling: a product that overflows is then -inf, whose weight 0 is the right limit, never inf - inf
    open_arms = np.isfinite(log_base)
    if not open_arms.any():
        raise ValueError("exponentiated step: no arm has a base weight above 0")
    if learning_rate == 0.0:
        return np.zeros_like(signal)
    with np.errstate(over="ignore"):
        # a closed arm may have the largest signal: cap it, its base is -inf anyway
        return learning_rate * np.minimum(signal - signal[open_arms].max(), 0.0)


def sharpness_warning(diagnostics: Mapping[str, float]) -> str | None:
    """One line for the log when a mixer's diagnostics show a mixture that is nearly one-hot, else None."""
    spread = diagnostics.get("logit_range", 0.0)
    if spread <= LOGIT_RANGE_WARNING:
        return None
    return (
        f"the mixer's logits span {spread:.1f} nats (above {LOGIT_RANGE_WARNING:g} the mixture is nearly one-hot); "
        "lower mixer.parameters.learning_rate or use reduction: mean"
    )
