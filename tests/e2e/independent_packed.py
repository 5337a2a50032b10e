"""A second reading of packed rows of byte tokens: pyarrow, numpy and hashlib only, nothing of the project."""

import hashlib
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_packed(samples: dict, arms: dict, where: str, m: dict, tables: list[pa.Table]) -> list[str]:
    """Every document whole, in consecutive pieces, as often as it was drawn; the rest of a row is padding.

    Returns:
        The documents, one entry for each time.
    """
    width, edges = samples["seq_len"], [[] if samples[k] is None else [samples[k]] for k in ("bos", "eos")]
    special, padding, order, cells = sum(map(len, edges)), 0, [], []
    found: dict[str, list] = defaultdict(list)
    for shard, table in zip(m["shards"], tables, strict=True):
        assert table.column_names == ["input_ids", "lengths", "ids", "arms", "skills", "n_tokens", "starts"]
        assert table.num_rows == shard["samples"]
        rows = table.to_pylist()
        assert shard["documents"] == sum(s == 0 for row in rows for s in row["starts"])
        assert shard["tokens"] == sum(sum(row["n_tokens"]) for row in rows)
        for row in rows:
            assert len(row["input_ids"]) == width
            assert row["lengths"], f"{where}: a row without a document"
            at, cell = 0, Counter()
            for n, i, a, skills, own, s in zip(*(row[c] for c in table.column_names[1:]), strict=True):
                found[i].append((s, row["input_ids"][at : at + n], a, skills, own))
                at, order = at + n, [*order, i]
                cell[a] += own
            assert set(row["input_ids"][at:]) <= {samples["pad"]}
            padding += width - at
            cells.append(cell)
    pieces = sum(len(parts) for parts in found.values())
    documents, realised = reassembled(arms, where, found, edges)
    assert m["packing"] == {
        "seq_len": width,
        "pieces": pieces,
        "special": special * len(documents),
        "padding": padding,
    }
    assert len(cells) == m["samples"]
    assert (len(documents), sum(realised.values())) == (m["documents"], m["tokens"]), f"{where}: counts"
    assert dict(realised) == m["realised"], f"{where}: realised"
    assert sum(s["bytes"] for s in m["shards"]) == m["bytes"]
    assert m["order"] == sha("\n".join(order).encode()), f"{where}: order"
    check_mixing(where, m["global_batch"], cells)
    return documents


def reassembled(arms: dict, where: str, found: dict[str, list], edges: list[list[int]]) -> tuple[list[str], Counter]:
    """Every document's pieces laid end to end are its text, as often as it was drawn."""
    texts = {}
    for arm, held in arms.items():
        columns = (held["table"][c].to_pylist() for c in ("id", "text", "skills"))
        texts |= {i: (arm, text, skills) for i, text, skills in zip(*columns, strict=True)}
    documents, realised = [], Counter()
    for name, parts in found.items():
        arm, text, skills = texts[name]
        expected = [*edges[0], *text.encode(), *edges[1]]
        times = sum(start == 0 for start, *_ in parts)
        documents += [name] * times
        assert {(a, tuple(k)) for _, _, a, k, _ in parts} == {(arm, tuple(skills))}, f"{where}: {name}"
        assert all(ids == expected[start : start + len(ids)] for start, ids, *_ in parts), f"{where}: {name}"
        covered = Counter(t for start, ids, *_ in parts for t in range(start, start + len(ids)))
        assert covered == Counter(dict.fromkeys(range(len(expected)), times)), f"{where}: {name} lost or repeated"
        own = sum(tokens for *_, tokens in parts)
        assert own == times * len(text.encode()), f"{where}: {name}: tokens"
        realised[arm] += own
    return documents, realised


def check_mixing(where: str, batch: int, cells: list[Counter]) -> None:
    """Arms are spread over the batches at least as evenly as by chance."""
    arms = sorted({arm for cell in cells for arm in cell})
    tokens = np.array([[cell[arm] for arm in arms] for cell in cells], dtype=float)

    def unevenness(order: np.ndarray) -> float:
        sums = tokens[order].reshape(-1, batch, len(arms)).sum(axis=1)
        return float((sums / sums.sum(axis=1, keepdims=True)).var(axis=0).sum())

    rng = np.random.default_rng(0)
    chance = np.mean([unevenness(rng.permutation(len(cells))) for _ in range(20)])
    found = unevenness(np.arange(len(cells)))
    assert found <= chance * 1.1 + 1e-12, f"{where}: batches are less even than a random order"
