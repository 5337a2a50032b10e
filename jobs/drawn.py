"""What the rounds of a run drew of each skill, counted in their shards or, where those are gone, estimated by arm.

A document's tokens are split evenly over its skills; tokens without a skill count as `_none`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prereq.selector.mixers.protocol import Arms
from prereq.selector.mixers.shares import NO_SKILL
from prereq.selector.rounds.manifest import RoundManifest, round_folder
from prereq.selector.storage import Folder

EXACT_DOCUMENTS = 20_000_000
"""Documents of a run up to which shards are read; reading two columns of them takes about a minute."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens per skill of one round.

    Attributes:
        tokens: Skill -> tokens, `_none` included.
        exact: Counted in the shards; otherwise the arms' tokens by the arms' shares per skill in the whole pool.
        note: Why shards could not be read, if that is not by retention.
    """

    tokens: dict[str, float]
    exact: bool
    note: str | None = None


def drawn_by_skill(run: Folder, manifest: RoundManifest, arms: Arms | None, *, read_shards: bool = True) -> Drawn:
    """Count a round's tokens per skill.

    Args:
        run: The run.
        manifest: The round.
        arms: The pool's arms, for an estimate; without them the estimate is what the mixture asked for.
        read_shards: Whether to open the shards at all.
    """
    if not read_shards or run.exists(f"{round_folder(manifest.round)}/deleted.json"):
        return Drawn(_estimate(manifest, arms), exact=False)
    total: dict[str, float] = {}
    for shard in manifest.shards:
        name = f"{round_folder(manifest.round)}/{shard.path}"
        try:
            with run.open(name) as file:
                table = pq.read_table(file, columns=["n_tokens", "skills"])
            counted = count_tokens(table)
        except (OSError, pa.ArrowException, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            note = f"round {manifest.round}: {run.path(name)} cannot be read ({reason}); see `prereq inspect --verify`"
            return Drawn(_estimate(manifest, arms), exact=False, note=note)
        for skill, tokens in counted.items():
            total[skill] = total.get(skill, 0.0) + tokens
    return Drawn(total, exact=True)


def count_tokens(table: pa.Table) -> dict[str, float]:
    """Tokens per skill of a table with the columns `n_tokens` and `skills` (lists); `_none` where a list is empty.

    Of packed rows both are lists with an entry per piece of a document.
    """
    if pa.types.is_list(table.schema.field("n_tokens").type):
        table = pa.table({name: pc.list_flatten(table[name]) for name in ("n_tokens", "skills")})
    tokens = table["n_tokens"].to_numpy().astype(np.float64)
    column = table["skills"].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # older pyarrow keeps the chunks
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.list_(pa.string()))
    # lengths: (documents,), a missing list counts as an empty one
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    parents = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = pc.list_flatten(column).dictionary_encode()
    shares = tokens[parents] / lengths[parents]
    sums = np.bincount(flat.indices.to_numpy(zero_copy_only=False), weights=shares, minlength=len(flat.dictionary))
    counted = dict(zip(map(str, flat.dictionary.to_pylist()), sums.tolist(), strict=True))
    untagged = float(tokens[lengths == 0].sum())
    return {**counted, **({NO_SKILL: untagged} if untagged else {})}


def _estimate(manifest: RoundManifest, arms: Arms | None) -> dict[str, float]:
    if arms is None:
        skills: Mapping[str, float] = manifest.mixture["skills"]
        return {skill: weight * manifest.tokens for skill, weight in skills.items()}
    realised = np.array([manifest.realised.get(arm, 0) for arm in arms.ids], dtype=np.float64)
    return arms.skill_weights(realised)
