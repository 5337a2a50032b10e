"""A mixture that no loss moves."""

import numpy as np
import pytest

from prereq.selector.mixers import Observation
from prereq.selector.mixers.fixed import FixedMixer


def test_no_observation_moves_it_and_the_state_given_is_not_the_state_returned():
    mixer = FixedMixer("static", np.array([0.25, 0.75]))
    state = mixer.init()
    after = mixer.update(state, Observation(round=0, losses={"a": 9.0}))
    assert after == state
    assert after is not state
    assert mixer.mixture(after).tolist() == [0.25, 0.75]
    assert mixer.diagnostics(after) == {"logit_range": 0.0}


def test_weights_off_the_simplex_are_refused():
    with pytest.raises(ValueError, match="mixer static: weights sum to"):
        FixedMixer("static", np.array([0.25, 0.5]))
