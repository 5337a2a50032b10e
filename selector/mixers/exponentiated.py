"""The exponentiated-gradient core: p in proportion to base * exp(eta * signal), in log space. Mixers bring the signal.

Everything online here (Skill-It, Aioli, DoReMi, Velocitune, ...) is this step with another signal, another base
(uniform, token shares, the previous mixture) and another reduction over past reports. `step` is one mixture; `Tilt` is
what the mixers of the field share around it: the base carried or not, the reduction, the floor, the average.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prereq.selector.mixers.protocol import State
from prereq.selector.mixers.simplex import BoolArray, FloatArray, logit_range, softmax

LOGIT_RANGE_WARNING = 5.0
"""Nats between the best and the worst arm's signal above which the mixture is nearly one-hot (e^5 = 148)."""

LOWEST_TILT = -1e300
"""Nats; a tilt below it is a weight of 0 all the same, and must not reach -inf, which no state may hold."""


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


def with_neutral(log_base: FloatArray, signal: FloatArray, learning_rate: float) -> FloatArray:
    """The signal `(n,)` with every NaN replaced by the value at which an arm keeps its share of the base.

    That value is log(sum_i b_i exp(eta s_i)) / eta over the measured arms, b their shares of the base among themselves:
    what is not measured is neither favoured nor starved (a 0 would be either, depending on the signal's sign).

    Args:
        log_base: Log weights `(n,)`, -inf for an arm that stays at 0.
        signal: `(n,)`, NaN where not measured, else finite; at least one open arm is measured.
        learning_rate: eta >= 0.
    """
    known = ~np.isnan(signal)
    usable = known & np.isfinite(log_base)
    if not usable.any():
        raise ValueError("exponentiated step: no drawable arm was measured")
    best = float(signal[usable].max())
    shares = softmax(log_base[usable])
    if learning_rate == 0.0:
        neutral = best
    else:
        with np.errstate(over="ignore"):
            relative = learning_rate * (signal[usable] - best)
        # relative <= 0 with one entry of 0 and a positive share: the sum is above 0 unless that share underflows
        total = float((shares * np.exp(relative)).sum())
        neutral = best + float(np.log(max(total, np.finfo(np.float64).tiny))) / learning_rate
    return np.where(known, signal, neutral)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tilt:
    """How the signals of successive reports become mixtures; pure functions of a plain state.

    State keys: `tilt` float64 `(n,)`, log(p / prior) up to a constant, <= 0 with a maximum of 0; `signal` `(n,)` and
    `known` bool `(n,)`, the reduced signal, where `memory` is set; `total` `(n,)` and `updates`, the sum of the
    mixtures so far and their number.
    """

    # log weights (n,) that the run starts from; -inf: an arm that is never drawn
    log_prior: FloatArray
    # eta >= 0, per unit of signal
    learning_rate: float
    # c in [0, 1), share of the prior mixed into every mixture
    floor: float = 0.0
    # True: each report moves the previous mixture; False: every mixture is the prior moved by the reduced signal
    carry: bool = True
    # weight in [0, 1) of the past in the reduced signal, 0: the newest measurement of each arm; None: only this report
    memory: float | None = None
    # the mixture is the mean over all reports (what DoReMi and DoGE hand to a second training run), not the newest
    average: bool = False

    def start(self) -> State:
        """Before any report: the prior."""
        n = len(self.log_prior)
        state: State = {"tilt": np.zeros(n), "updates": 0}
        if self.average:
            state["total"] = np.zeros(n)
        return state if self.memory is None else state | {"signal": np.zeros(n), "known": np.zeros(n, dtype=np.bool_)}

    def move(self, state: State, signal: FloatArray) -> State:
        """The state after a report's signal `(n,)`, NaN where not measured; `state` is unchanged.

        An arm without a measurement keeps its share; a report that measured no drawable arm moves nothing.
        """
        new = dict(state)
        open_arms = np.isfinite(self.log_prior)
        if not (open_arms & ~np.isnan(signal)).any():
            return new
        if self.memory is not None:
            signal = self._remember(new, signal)
        base = self.log_prior + np.asarray(state["tilt"], dtype=np.float64) if self.carry else self.log_prior
        filled = with_neutral(base, signal, self.learning_rate)
        moved = np.where(open_arms, base - np.where(open_arms, self.log_prior, 0.0), 0.0)
        moved = moved + _shifted(self.log_prior, filled, self.learning_rate)
        if self.floor > 0.0:
            weights = (1.0 - self.floor) * softmax(self.log_prior + moved) + self.floor * softmax(self.log_prior)
            # where the prior is 0 the weight is, and 0 / 0 is put to 1 below
            ratio = np.divide(weights, softmax(self.log_prior), out=np.ones_like(weights), where=open_arms)
            moved = log_weights(ratio)
        moved = np.where(open_arms, moved - moved[open_arms].max(), 0.0)
        new |= {"tilt": np.maximum(moved, LOWEST_TILT), "updates": int(state["updates"]) + 1}
        if self.average:
            new["total"] = np.asarray(state["total"], dtype=np.float64) + self._newest(new)
        return new

    def weights(self, state: State) -> FloatArray:
        """The mixture `(n,)`: the newest, or with `average` the mean over the reports that moved something."""
        if self.average and state["updates"]:
            total = np.asarray(state["total"], dtype=np.float64)
            return total / total.sum()
        return self._newest(state)

    def spread(self, state: State) -> float:
        """Range (nats) of log(p / prior) over the arms that may be drawn."""
        return logit_range(np.asarray(state["tilt"], dtype=np.float64)[np.isfinite(self.log_prior)])

    def _newest(self, state: State) -> FloatArray:
        return softmax(self.log_prior + np.asarray(state["tilt"], dtype=np.float64))

    def _remember(self, new: State, signal: FloatArray) -> FloatArray:
        """The reduced signal, NaN where nothing was ever measured; writes it into `new`."""
        assert self.memory is not None
        seen = np.asarray(new["known"], dtype=np.bool_)
        past = np.asarray(new["signal"], dtype=np.float64)
        measured = ~np.isnan(signal)
        value = np.where(measured, signal, 0.0)
        blended = np.where(seen, (1.0 - self.memory) * value + self.memory * past, value)
        reduced = np.where(measured, blended, past)
        new |= {"signal": reduced, "known": seen | measured}
        return np.where(new["known"], reduced, np.nan)
