"""From rows that were read to a batch."""

from collections.abc import Sequence
from typing import Any

from prereq.selector.feed.batch import Batch
from prereq.selector.feed.column import Column
from prereq.selector.feed.state import FeedState
from prereq.selector.feed.window import Rows

_USUAL = ("id", "text", "arm", "skills", "n_tokens", "input_ids")
_PACKED = ("ids", "arms", "skills", "n_tokens", "input_ids", "lengths", "starts")


def make_batch(rows: Rows, seq_len: int | None, state: FeedState, last: bool, micro_batch: int | None) -> Batch:
    """A batch of rows.

    Args:
        rows: A rank's share.
        seq_len: Tokens of packed rows; None: rows are documents.
        state: The feed's, behind this batch.
        last: Whether it is the last of its round.
        micro_batch: Rows of a micro-batch.
    """
    size, packed = rows.num_rows, seq_len is not None
    own = _PACKED if packed else _USUAL

    def column(name: str, missing: Any) -> Sequence[Any]:
        return rows.lists(name) if name in rows.names else Column(lambda: [missing] * size, size)

    def arrays(name: str) -> Sequence[Any] | None:
        return Column(lambda: rows.arrays(name), size) if name in rows.names else None

    tokens: Any = arrays("input_ids")
    if seq_len is not None and tokens is not None:
        tokens = rows.tokens(seq_len)
    return Batch(
        ids=column("ids" if packed else "id", ""),
        arms=column("arms" if packed else "arm", ""),
        skills=column("skills", []),
        n_tokens=Column(lambda: rows.sums("n_tokens"), size)
        if packed and "n_tokens" in rows.names
        else column("n_tokens", 0),
        texts=rows.lists("text") if "text" in rows.names and not packed else None,
        input_ids=tokens,
        lengths=arrays("lengths") if packed else None,
        starts=arrays("starts") if packed else None,
        extra={name: rows.lists(name) for name in rows.names if name not in own},
        step=state.step or 0,
        round=state.round,
        last_of_round=last,
        state=state.to_dict(),
        micro_batch=micro_batch,
    )
