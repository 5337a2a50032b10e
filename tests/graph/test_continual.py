"""Training in stages: known answers of both sets of definitions."""

import numpy as np
import pytest

from prereq.graph.continual import transfer_curll, transfer_gem
from prereq.graph.errors import GraphError

SCORES = np.array([[0.8, 0.3], [0.6, 0.9]])


def test_two_stages_by_hand() -> None:
    assert transfer_gem(SCORES, np.array([0.1, 0.2])) == pytest.approx(
        {"accuracy_gem": 0.75, "backward_gem": -0.2, "forward_gem": 0.1, "forgetting_gem": 0.2}
    )
    found = transfer_curll(SCORES, joint=np.array([0.75, 0.85]), independent=np.array([0.8, 0.85]))
    assert found == pytest.approx({"forgetting_curll": 0.1, "backward_curll": -0.05, "forward_curll": -0.55})


@pytest.mark.parametrize("seed", range(2))
def test_three_stages_by_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, before = rng.random((3, 3)), rng.random(3)
    scores[2, seed % 2] += 1.0  # better at the end than ever before: less than nothing is forgotten
    last = scores[2]
    gem, curll = transfer_gem(scores, before), transfer_curll(scores, before, before)
    assert gem["backward_gem"] == pytest.approx(np.mean([last[i] - scores[i, i] for i in (0, 1)]))
    assert gem["forward_gem"] == pytest.approx(np.mean([scores[i - 1, i] - before[i] for i in (1, 2)]))
    assert gem["forgetting_gem"] == pytest.approx(np.mean([max(scores[0, i], scores[1, i]) - last[i] for i in (0, 1)]))
    assert curll["forgetting_curll"] == pytest.approx(np.mean([max(scores[:, i]) - last[i] for i in range(3)]))
    unseen = [scores[t, i] - before[i] for t in range(3) for i in range(3) if i > t]
    assert curll["forward_curll"] == pytest.approx(np.mean(unseen))


def test_where_nothing_changes_nothing_is_forgotten_or_passed_back() -> None:
    same = np.full((4, 4), 0.5)
    assert transfer_curll(same)["forgetting_curll"] == 0
    assert transfer_gem(same)["backward_gem"] == transfer_gem(same)["forgetting_gem"] == 0


def test_what_is_not_known_is_none_and_what_makes_no_sense_is_refused() -> None:
    one = np.array([[0.5]])
    assert set(transfer_gem(one, np.zeros(1)).values()) == {0.5, None}
    assert transfer_curll(SCORES) == {
        "forgetting_curll": pytest.approx(0.1),
        "backward_curll": None,
        "forward_curll": None,
    }
    for scores, other in ((np.zeros((2, 3)), None), (np.zeros((0, 0)), None), (SCORES, np.zeros(3))):
        with pytest.raises(GraphError, match="stages"):
            transfer_gem(scores, other)
    with pytest.raises(GraphError, match="finite"):
        transfer_curll(np.array([[np.nan]]))
