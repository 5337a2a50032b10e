"""From a mixture to a round's rows: how many documents fill it, and what its table holds.

With plain rows a sample is a document. With packed rows the documents that are due first are taken, as many as fit
into the round's rows when they are cut and packed; shares of tokens are kept as with plain rows, in the documents' own
tokens.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import ConfigError
from prereq.selector.rounds.config import SamplerConfig
from prereq.selector.rounds.order import IntArray, stratified_order
from prereq.selector.rounds.packing import most_that_fit, pack, rows_needed
from prereq.selector.rounds.plan import Plan
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.samples import Encode, packed_rows, with_tokens
from prereq.selector.rounds.shards import DrawnRound, PoolStock

_FIRST_COLUMNS = ("id", "text", "n_tokens", "arm", "skills", "source")


def plan_samples(
    config: SamplerConfig, stock: PoolStock, mean_tokens: float, plan: Callable[[int], Plan | None]
) -> Plan | None:
    """The plan that fills a round.

    Args:
        config: The run's rounds.
        stock: The arms' documents.
        mean_tokens: Of a document under the mixture, about; where the search begins.
        plan: Number of documents -> what `plan_round` gives.

    Returns:
        The plan; None when the pool cannot fill the round.

    Raises:
        PrereqError: A document alone is longer than a round.
    """
    samples, rows = config.samples, config.samples_per_round
    if samples.kind != "packed":
        return plan(rows)

    def need(drawn: Plan) -> int:
        return rows_needed(document_lengths(stock, drawn) + samples.special, samples.seq_len)

    return most_that_fit(plan, need, rows, int(rows * samples.seq_len / (mean_tokens + samples.special)))


def document_lengths(stock: PoolStock, plan: Plan) -> IntArray:
    """Tokens of a plan's documents, arms ascending, each in draw order; `(documents,)`."""
    parts = [
        stock.epoch_tokens(arm, draw.epoch)[draw.start : draw.stop]
        for arm, draws in enumerate(plan.draws)
        for draw in draws
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def draw_round(
    pool: Pool, stock: PoolStock, plan: Plan, config: SamplerConfig, number: int, encode: Encode | None = None
) -> DrawnRound:
    """Read the documents of a plan and bring them into the round's order.

    Args:
        pool: The pool.
        stock: The pool in the order of the run's seed.
        plan: What the round takes.
        config: The run's rounds.
        number: The round.
        encode: Text to tokens; needed where `samples.kind` is not text.

    Raises:
        ConfigError: Tokens are asked for without `encode`.
    """
    tables, tokens = [], []
    for arm, draws in enumerate(plan.draws):
        if draws:
            rows = np.concatenate([stock.stored_rows(arm, draw) for draw in draws])
            tables.append(pool.read_rows(arm, rows))
            tokens.append(pool.tokens(arm)[rows])
    documents = pa.concat_tables(tables)
    if config.samples.kind == "packed":
        owner = np.repeat(np.arange(len(tokens)), [len(t) for t in tokens])
        return _packed(documents, np.concatenate(tokens), owner, config, number, _needed(encode))
    order = stratified_order(tokens, config.global_batch, config.seed, number)
    names = [*_FIRST_COLUMNS, *(name for name in documents.column_names if name not in _FIRST_COLUMNS)]
    table = documents.select(names).take(pa.array(order)).combine_chunks()
    if config.samples.kind == "tokens":
        table = with_tokens(table, config.samples, _needed(encode))
    return DrawnRound(table, _order_digest(table["id"]), len(order), int(np.concatenate(tokens).sum()))


def _packed(
    documents: pa.Table, tokens: IntArray, owner: IntArray, config: SamplerConfig, number: int, encode: Encode
) -> DrawnRound:
    samples, rows = config.samples, config.samples_per_round
    lengths = tokens + samples.special
    packing = pack(lengths, samples.seq_len, rows, owner, config.global_batch, (config.seed, number))
    table = packed_rows(documents, packing, rows, samples, encode)
    facts = {
        "seq_len": samples.seq_len,
        "pieces": len(packing.length),
        "special": samples.special * len(lengths),
        "padding": rows * samples.seq_len - int(packing.length.sum()),
    }
    ids = documents["id"].take(pa.array(packing.document))
    return DrawnRound(table, _order_digest(ids), len(lengths), int(tokens.sum()), facts)


def _order_digest(ids: pa.ChunkedArray) -> str:
    return sha256_hex("\n".join(ids.to_pylist()).encode())


def _needed(encode: Encode | None) -> Encode:
    if encode is None:
        raise ConfigError("samples.kind: rows of tokens need a tokenizer; give the sampler one (encode=...)")
    return encode
