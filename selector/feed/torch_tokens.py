"""Rows of tokens as the tensors that a causal language model takes.

loader = FeedLoader(dataset, model_inputs, micro_batch=8, who="my loop")   # or model_inputs(batch) in a loop
"""

import torch

from prereq.selector.feed.batch import Batch

IGNORE = -100  # a label that carries no loss


def model_inputs(
    batch: Batch, *, pad: int = 0, width: int | None = None, across: bool = False
) -> dict[str, torch.Tensor]:
    """A batch as tensors of `(rows, width)`.

    Args:
        batch: Of a run with `samples.kind` tokens or packed.
        pad: Token in the unused end of rows that are not packed.
        width: Tokens of rows that are not packed; None: the longest document's.
        across: Whether the first token of a document is to be predicted from the one before it in its row.

    Returns:
        `input_ids` int32, the batch's own memory where it is packed; `labels` int64, unshifted, IGNORE for padding and
        for tokens that nothing is to predict; `position_ids` int64 from the beginning of each piece; `segment_ids`
        int32, 0 for padding.

    Raises:
        ConfigError: The batch holds no tokens.
    """
    rows = batch.token_rows(pad=pad, width=width)
    input_ids = torch.from_numpy(rows.input_ids)
    wanted = torch.from_numpy(rows.loss_mask(across=across))
    return {
        "input_ids": input_ids,
        "labels": torch.where(wanted, input_ids.long(), IGNORE),
        "position_ids": torch.from_numpy(rows.positions()).long(),
        "segment_ids": torch.from_numpy(rows.segments()),
    }
