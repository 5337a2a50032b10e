"""Tensors of rows of tokens: shared memory, labels only where something is to be predicted."""

import numpy as np
import torch

from prereq.selector.feed.batch import Batch
from prereq.selector.feed.torch_tokens import model_inputs


def test_packed_rows_become_tensors_without_a_copy() -> None:
    ids = np.arange(16, dtype=np.int32).reshape(2, 8)
    lengths, starts = [np.array([3, 4]), np.array([8])], [np.array([0, 2]), np.array([0])]
    more = {"step": 0, "round": 0, "last_of_round": False, "state": None, "texts": None}
    batch = Batch(
        ids=["a", "b"], arms=["x"] * 2, skills=[[]] * 2, n_tokens=[7, 8],
        input_ids=ids, lengths=lengths, starts=starts, **more,
    )  # fmt: skip
    found = model_inputs(batch)
    ids[0, 0] = 99
    assert found["input_ids"][0, 0] == 99, "the same memory"
    assert found["labels"].tolist() == [[-100, 1, 2, -100, 4, 5, 6, -100], [-100, *range(9, 16)]]
    assert model_inputs(batch, across=True)["labels"][0].tolist() == [-100, 1, 2, 3, 4, 5, 6, -100]
    assert found["position_ids"][0].tolist() == [0, 1, 2, 0, 1, 2, 3, 0]
    assert found["segment_ids"].dtype == torch.int32
    plain = Batch(ids=["a"], arms=["x"], skills=[[]], n_tokens=[2], input_ids=[np.array([5, 6], np.int32)], **more)
    assert model_inputs(plain, width=3)["labels"].tolist() == [[-100, 6, -100]]
