"""What packed rows lose to padding, and when that is worth a word: documents are whole, and none crosses a round."""

from collections.abc import Sequence
from typing import Any

from prereq.selector.rounds.manifest import RoundManifest

_MUCH = 0.1  # share of padding above which something can be done about it
_TOKEN_BYTES = 4  # of input_ids in a shard, where they are int32 and uncompressed


def padding_facts(manifests: Sequence[RoundManifest]) -> dict[str, Any] | None:
    """Padding of packed rounds: `tokens`, `bytes`, `share` of their rows; None where none is packed."""
    packed = [(m.samples, m.packing) for m in manifests if m.packing is not None]
    if not packed:
        return None
    tokens = sum(packing["padding"] for _, packing in packed)
    room = sum(samples * packing["seq_len"] for samples, packing in packed)
    return {"tokens": tokens, "bytes": tokens * _TOKEN_BYTES, "share": tokens / room}


def padding_line(facts: dict[str, Any]) -> str:
    """The padding of a run in words, with what can be done where it is much."""
    line = f"padding {facts['tokens']:,} tokens, {facts['bytes']:,} bytes ({facts['share']:.1%} of the rows)"
    if facts["share"] <= _MUCH:
        return line
    return (
        f"{line}: the documents are long for a round; raise batches_per_round, global_batch or samples.seq_len, or "
        "split documents when the pool is built (ingest)"
    )


def of_round(manifest: RoundManifest) -> str:
    """What stands in a round's line behind its tokens; empty where the round is not packed."""
    facts = padding_facts([manifest])
    return "" if facts is None else f" (padding {facts['share']:.1%})"
