"""`FixedMixer`: a mixture that no loss moves, the form that every static baseline takes."""

from prereq.selector.mixers.protocol import Observation, State
from prereq.selector.mixers.simplex import FloatArray, check_simplex


class FixedMixer:
    """One mixture for the whole run."""

    uses_feedback = False
    required_signals: tuple[str, ...] = ()

    def __init__(self, name: str, weights: FloatArray) -> None:
        """Keep the weights `(n,)`, on the simplex, in the order of `Arms.ids`."""
        self.name = name
        self._weights = check_simplex(weights, where=f"mixer {name}").copy()
        self._weights.setflags(write=False)

    def init(self) -> State:
        """An empty state: there is nothing to remember."""
        return {}

    def update(self, state: State, observation: Observation) -> State:
        """A copy of the state; the observation changes nothing."""
        return dict(state)

    def mixture(self, state: State) -> FloatArray:
        """The weights `(n,)`."""
        return self._weights.copy()

    def diagnostics(self, state: State) -> dict[str, float]:
        """No feedback, no logits: a range of 0."""
        return {"logit_range": 0.0}
