"""Mixtures to try in proxy runs: Dirichlet draws around the corpus, within what the data can carry."""

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.selector.mixers.simplex import FloatArray, check_simplex

SMALLEST_SHARE = 2e-4
"""A smaller weight is set to 0, as in RegMix's released code: a proxy run could not draw a document of it."""

_STRENGTHS = np.logspace(-1.0, np.log10(5.0), 15)
_TRIES = 1000


def propose_mixtures(
    prior: FloatArray, count: int, seed: int, *, caps: FloatArray | None = None, temper: float = 0.5
) -> FloatArray:
    """Draw mixtures from Dirichlet(strength * prior^temper, normalised), strengths from .1 to 5 in turn.

    Args:
        prior: `(k,)` on the simplex, usually the token shares of the corpus.
        count: How many.
        seed: They follow from it alone; the first n of more are the same.
        caps: `(k,)`, largest share of each part, such as `olmix.repetition_caps`; a draw above one is thrown away.
        temper: In (0, 1]: 1 keeps the prior, less lifts small parts.

    Returns:
        `(count, k)` on the simplex; weights below SMALLEST_SHARE are 0.

    Raises:
        ConfigError: The caps leave next to no mixture: 1,000 draws in a row were above one.

    Source:
        Liu et al. 2024, "RegMix", arXiv:2407.01492; code sail-sg/regmix (b004d3a).
    """
    prior = check_simplex(prior, where="prior")
    tempered = prior**temper
    tempered = tempered / tempered.sum()
    limits = np.ones_like(prior) if caps is None else np.asarray(caps, dtype=np.float64)
    found = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        # normalised: the strength is the sum of the Dirichlet's parameters over the number of parts
        concentration = _STRENGTHS[index % len(_STRENGTHS)] * len(prior) * tempered
        for _ in range(_TRIES):
            mixture = _drawn(rng, concentration)
            if (mixture <= limits).all():
                break
        else:
            raise ConfigError(
                f"proposals: {_TRIES} draws in a row ask for more of a part than its cap; ask for fewer tokens, allow "
                "more repeats, or leave small parts out"
            )
        found.append(mixture)
    return np.array(found).reshape(count, len(prior))


def _drawn(rng: np.random.Generator, concentration: FloatArray) -> FloatArray:
    positive = concentration > 0
    mixture = np.zeros_like(concentration)
    # gamma draws of tiny parameters may all be 0; one is then as good as another
    gammas = rng.standard_gamma(concentration[positive])
    mixture[positive] = gammas / gammas.sum() if gammas.sum() > 0 else 1.0 / positive.sum()
    mixture[mixture < SMALLEST_SHARE] = 0.0
    drawn: FloatArray = mixture / mixture.sum()
    return drawn
