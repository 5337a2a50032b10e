"""A second reading of the formats: pyarrow, numpy and json only, nothing of the project.

`check_pool` and `check_run` go through every rule of the file formats and raise AssertionError with a sentence. They
share no code with the program, so that a mistake would have to be made twice.
"""

import hashlib
import importlib.util
import json
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SHARD_COLUMNS = ["id", "text", "n_tokens", "arm", "skills", "source"]
MASK = 2**64 - 1


_spec = importlib.util.spec_from_file_location("independent_packed", Path(__file__).with_name("independent_packed.py"))
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
check_packed = _module.check_packed


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical(path: Path):
    """A JSON file whose bytes are canonical: UTF-8, sorted keys, no spaces, shortest floats."""
    data = path.read_bytes()
    value = json.loads(data)
    again = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    assert again == data, f"{path}: not canonical JSON"
    return value, data


def same_text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def splitmix(state: int, count: int) -> list[int]:
    out = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(z ^ (z >> 31))
    return out


def epoch_order(seed: int, arm: str, epoch: int, groups: list[int]) -> list[int]:
    """Stored rows of an arm in the order of an epoch: row groups by value, rows inside a group by value."""
    key = int.from_bytes(
        hashlib.sha256(json.dumps([seed, arm, epoch], separators=(",", ":")).encode()).digest()[:8], "big"
    )
    values = splitmix(key, len(groups) + sum(groups))
    starts = np.concatenate([[0], np.cumsum(groups)]).astype(int)
    order = []
    for g in sorted(range(len(groups)), key=lambda g: (values[g], g)):
        rows = range(starts[g], starts[g + 1])
        order += sorted(rows, key=lambda r: (values[len(groups) + r], r))
    return order


class PoolView:
    """What a pool's files say, checked against each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest, data = canonical(folder / "manifest.json")
        self.sha256 = sha(data)
        m = self.manifest
        assert set(m) >= {"format", "config", "seed", "documents", "tokens", "arms", "skills", "holdout"}
        assert m["format"] == "prereq.pool/1"
        ids = [arm["id"] for arm in m["arms"]]
        assert ids == sorted(set(ids)), "arms ascend by id"
        self.arms = {arm["id"]: self._arm(arm) for arm in m["arms"]}
        self._check_counts()
        self._check_arms_table()
        self._check_holdout()

    def _arm(self, entry: dict) -> dict:
        tables, groups = [], []
        for part in entry["parts"]:
            path = self.folder / part["path"]
            assert path.name.startswith("part-"), f"{path}: is not a part"
            assert path.stem.split("-")[2] == sha(path.read_bytes())[:12], f"{path}: its name is not its digest"
            file = pq.ParquetFile(path)
            for g in part["row_groups"]:
                table = file.read_row_group(g)
                assert table.column_names[:6] == SHARD_COLUMNS, f"{path}: columns {table.column_names}"
                assert set(table["arm"].to_pylist()) == {entry["id"]}, f"{path}: row group {g} holds another arm"
                tables.append(table)
                groups.append(table.num_rows)
        table = pa.concat_tables(tables)
        assert table.num_rows == entry["rows"], f"arm {entry['id']}: rows"
        tokens = table["n_tokens"].to_pylist()
        assert sum(tokens) == entry["tokens"], f"arm {entry['id']}: tokens"
        assert min(tokens) > 0
        return {"table": table, "groups": groups, "ids": table["id"].to_pylist(), "tokens": tokens}

    def _check_counts(self) -> None:
        m = self.manifest
        assert m["documents"] == sum(len(a["ids"]) for a in self.arms.values()), "documents of the pool"
        assert m["tokens"] == sum(sum(a["tokens"]) for a in self.arms.values()), "tokens of the pool"
        everything = [i for a in self.arms.values() for i in a["ids"]]
        assert len(set(everything)) == len(everything), "a document lies in the pool twice"
        listed = {p["path"] for arm in m["arms"] for p in arm["parts"]}
        assert listed == {p.name for p in self.folder.glob("part-*.parquet")}, (
            "parts on disk and in the manifest differ"
        )
        graph, _ = canonical(self.folder / "graph.json")
        assert [s["id"] for s in graph["skills"]] == m["skills"], "skills of the graph and of the manifest differ"

    def _check_arms_table(self) -> None:
        table = pq.read_table(self.folder / "arms.parquet")
        assert table.column_names[:4] == ["id", "name", "centroid", "T"]
        assert table["id"].to_pylist() == list(self.arms)
        self.shares = {}
        for arm, pairs in zip(table["id"].to_pylist(), table["T"].to_pylist(), strict=True):
            shares = dict(pairs)
            expected: dict[str, float] = defaultdict(float)
            held = self.arms[arm]
            for tokens, skills in zip(held["tokens"], held["table"]["skills"].to_pylist(), strict=True):
                for skill in skills or ["_none"]:
                    expected[skill] += tokens / max(1, len(skills)) / sum(held["tokens"])
            assert set(expected) <= {*self.manifest["skills"], "_none"}, f"arm {arm}: unknown skills"
            for skill in {*shares, *expected}:
                assert abs(shares.get(skill, 0) - expected.get(skill, 0)) < 1e-9, f"arm {arm}: T[{skill}]"
            self.shares[arm] = shares

    def _check_holdout(self) -> None:
        files = sorted((self.folder / "holdout").glob("part-*.parquet"))
        assert sha(b"".join(f.read_bytes() for f in files)) == self.manifest["holdout"], "digest of the holdout"
        rows = [row for f in files for row in pq.read_table(f).to_pylist()]
        assert all(row["split"] in ("control", "report") for row in rows)
        assert all(set(row["skills"]) <= set(self.manifest["skills"]) for row in rows)
        self.held_out = {same_text(row["text"]) for row in rows}
        by_split = {s: {same_text(r["text"]) for r in rows if r["split"] == s} for s in ("control", "report")}
        assert not by_split["control"] & by_split["report"], "a text is in both splits"
        held_ids = {row["id"] for row in rows}
        for arm, held in self.arms.items():
            texts = {same_text(t) for t in held["table"]["text"].to_pylist()}
            assert not texts & self.held_out, f"arm {arm}: a held-out text is in the pool"
            assert not held_ids & set(held["ids"])


def check_pool(folder: Path) -> PoolView:
    return PoolView(folder)


def check_run(folder: Path, pool: PoolView) -> list[dict]:
    """Every rule of a run; the manifests."""
    info = json.loads((folder / "run.json").read_bytes())
    assert info["format"] == "prereq.run/1"
    assert info["pool_sha256"] == pool.sha256
    influence = pq.read_table(folder / "influence.parquet")
    assert influence.column_names == ["train", "eval", "weight"]
    graph, _ = canonical(folder / "graph.json")
    assert graph["format"] == "prereq.graph/1"
    names = sorted(p.name for p in (folder / "rounds").iterdir())
    assert names == [f"{n:06d}" for n in range(len(names))], f"rounds/ holds {names}"
    seen = RunView(folder, pool, info)
    manifests = [seen.check_round(n) for n in range(len(names))]
    seen.check_shares()
    if (folder / "done.json").exists():
        done, _ = canonical(folder / "done.json")
        assert done["format"] == "prereq.done/1"
        assert done["rounds"] == len(manifests)
        assert done["last"] == (seen.parent if manifests else None)
        assert done["reason"] in ("budget", "pool exhausted", "stopped")
    return manifests


class RunView:
    """Walks the rounds in order and keeps what later rules need."""

    def __init__(self, folder: Path, pool: PoolView, info: dict) -> None:
        self.folder, self.pool, self.info = folder, pool, info
        self.parent: str | None = None
        self.at = dict.fromkeys(pool.arms, (0, 0))
        self.stated: dict[str, float] = defaultdict(float)
        self.got: Counter[str] = Counter()
        self.applied: list = []
        self.same_neighbour: list[float] = []
        self.unevenness: list[tuple[float, float]] = []
        self.expected_neighbour: list[float] = []
        self.orders: dict[tuple[str, int], list[int]] = {}

    def check_round(self, number: int) -> dict:
        folder = self.folder / f"rounds/{number:06d}"
        m, data = canonical(folder / "manifest.json")
        where = f"round {number}"
        packed = self.info["drawing"].get("samples", {}).get("kind") == "packed"
        assert set(m) == {
            *(("packing",) if packed else ()),
            *("format", "round", "parent", "config", "pool", "seed", "global_batch", "feedback", "mixer", "mixture"),
            *("realised", "draws", "samples", "documents", "tokens", "bytes", "order", "shards"),
        }, f"{where}: keys {sorted(m)}"
        assert (m["format"], m["round"], m["parent"]) == ("prereq.round/1", number, self.parent), f"{where}: chain"
        assert (m["config"], m["pool"], m["seed"]) == (self.info["config_sha256"], self.pool.sha256, self.info["seed"])
        assert m["global_batch"] == self.info["global_batch"]
        assert m["samples"] == m["global_batch"] * self.info["drawing"]["batches_per_round"]
        listed = {"manifest.json", *(s["path"] for s in m["shards"])}
        assert {p.name for p in folder.iterdir()} <= listed | {"state.npz", "deleted.json"}, f"{where}: stray files"
        tables = self._shards(folder, m)
        if packed:
            documents = check_packed(self.info["drawing"]["samples"], self.pool.arms, where, m, tables)
            self._draws(where, m, documents)
        else:
            table = self._plain(m, tables)
            self._counts(where, m, table)
            self._draws(where, m, table["id"].to_pylist())
            self._mixing(m, table)
        self._mixture(where, m)
        self._feedback(where, m)
        self.parent = sha(data)
        return m

    def _shards(self, folder: Path, m: dict) -> list[pa.Table]:
        tables = []
        for n, shard in enumerate(m["shards"]):
            data = (folder / shard["path"]).read_bytes()
            assert (len(data), sha(data)) == (shard["bytes"], shard["sha256"]), f"{shard['path']}: content"
            assert shard["path"] == f"shard-{n:05d}-{shard['sha256'][:12]}.parquet"
            file = pq.ParquetFile(pa.BufferReader(data))
            rows = {file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)}
            assert len(rows) == 1, f"{shard['path']}: row groups differ in size: {rows}"
            assert m["global_batch"] % rows.pop() == 0, f"{shard['path']}: row groups straddle batches"
            self._ranges(shard, data, file.metadata)
            tables.append(file.read())
        return tables

    @staticmethod
    def _ranges(shard: dict, data: bytes, meta: pq.FileMetaData) -> None:
        """Digests of the row groups' bytes, one behind the other, and of the rest."""
        starts = []
        for g in range(meta.num_row_groups):
            columns = [meta.row_group(g).column(c) for c in range(meta.num_columns)]
            starts.append(min(min(c.data_page_offset, c.dictionary_page_offset or c.data_page_offset) for c in columns))
        ends = [*starts[1:], len(data) - 8 - int.from_bytes(data[-8:-4], "little")]
        found = [sha(data[a:b])[:32] for a, b in zip(starts, ends, strict=True)]
        assert (found, sha(data[ends[-1] :])[:32]) == (shard["groups"], shard["footer"]), f"{shard['path']}: digests"

    @staticmethod
    def _plain(m: dict, tables: list[pa.Table]) -> pa.Table:
        for shard, table in zip(m["shards"], tables, strict=True):
            assert table.column_names[:6] == SHARD_COLUMNS
            assert table.schema.field("text").type == pa.large_string()
            assert table.schema.field("n_tokens").type == pa.int64()
            assert (table.num_rows, table.num_rows) == (shard["samples"], shard["documents"])
            assert sum(table["n_tokens"].to_pylist()) == shard["tokens"]
        return pa.concat_tables(tables)

    def _counts(self, where: str, m: dict, table: pa.Table) -> None:
        assert table.num_rows == m["samples"] == m["documents"], f"{where}: rows"
        assert sum(table["n_tokens"].to_pylist()) == m["tokens"] == sum(m["realised"].values()), f"{where}: tokens"
        assert sum(s["bytes"] for s in m["shards"]) == m["bytes"]
        assert m["order"] == sha("\n".join(table["id"].to_pylist()).encode()), f"{where}: order"
        realised: Counter[str] = Counter()
        for arm, tokens in zip(table["arm"].to_pylist(), table["n_tokens"].to_pylist(), strict=True):
            realised[arm] += tokens
        assert dict(realised) == m["realised"], f"{where}: realised"
        assert all(
            len(t.encode()) == n for t, n in zip(table["text"].to_pylist(), table["n_tokens"].to_pylist(), strict=True)
        )
        assert not {same_text(t) for t in table["text"].to_pylist()} & self.pool.held_out, f"{where}: a held-out text"

    def _draws(self, where: str, m: dict, documents: list[str]) -> None:
        """Ranges go on where the last ended, and the documents in them are those of the shards, each once."""
        drawn: list[str] = []
        for arm, ranges in m["draws"].items():
            held = self.pool.arms[arm]
            for r in ranges:
                assert (r["epoch"], r["start"]) == self.at[arm], (
                    f"{where}: arm {arm} goes on at {self.at[arm]}, not {r}"
                )
                key = (arm, r["epoch"])
                if key not in self.orders:
                    self.orders[key] = epoch_order(m["seed"], arm, r["epoch"], held["groups"])
                drawn += [held["ids"][row] for row in self.orders[key][r["start"] : r["stop"]]]
                assert r["start"] < r["stop"] <= len(held["ids"])
                self.at[arm] = (r["epoch"] + 1, 0) if r["stop"] == len(held["ids"]) else (r["epoch"], r["stop"])
            assert self.at[arm][0] <= self.info["drawing"]["max_epochs"]
        assert Counter(drawn) == Counter(documents), f"{where}: drawn ranges and shards differ"

    def _mixture(self, where: str, m: dict) -> None:
        requested, arms, skills = (m["mixture"][k] for k in ("requested", "arms", "skills"))
        assert set(requested) == set(arms) == set(self.pool.arms), f"{where}: arms of the mixture"
        for weights in (requested, arms, skills):
            assert abs(sum(weights.values()) - 1) < 1e-9, f"{where}: weights do not sum to 1"
            assert min(weights.values()) >= 0, f"{where}: a weight is negative"
        for skill in {*skills, *self.pool.manifest["skills"]}:
            expected = sum(w * self.pool.shares[a].get(skill, 0.0) for a, w in arms.items())
            assert abs(skills.get(skill, 0.0) - expected) < 1e-9, f"{where}: mixture of {skill}"
        for arm, weight in arms.items():
            self.stated[arm] += weight * m["tokens"]
            self.got[arm] += m["realised"].get(arm, 0)

    def _feedback(self, where: str, m: dict) -> None:
        for entry in m["feedback"]:
            number = entry["round"]
            name = "initial" if number == "initial" else f"{number:06d}"
            report, data = canonical(self.folder / f"feedback/{name}.json")
            assert sha(data) == entry["sha256"], f"{where}: report {name}"
            assert report["format"] == "prereq.feedback/1"
            assert report["round"] == number
            assert set(report["losses"]) <= set(self.pool.manifest["skills"])
            lookahead = self.info["drawing"]["lookahead"]
            assert m["round"] >= (0 if number == "initial" else number + 1 + lookahead), f"{where}: applied too early"
            assert number not in self.applied, f"{where}: report {name} is applied twice"
            self.applied.append(number)
        if self.info["drawing"]["policy"] == "wait" and self.info["mixer"]["uses_feedback"]:
            due = m["round"] - 1 - self.info["drawing"]["lookahead"]
            every = self.info["drawing"]["report_every"]
            assert all(n in self.applied for n in range(due + 1) if (n + 1) % every == 0), f"{where}: did not wait"

    def _mixing(self, m: dict, table: pa.Table) -> None:
        """How often neighbours in a batch are of one arm, and how even arms are over batches, against chance."""
        batch = m["global_batch"]
        arms = np.array(table["arm"].to_pylist()).reshape(-1, batch)
        for row in arms:
            counts = np.array(list(Counter(row.tolist()).values()))
            self.same_neighbour.append(float(np.mean(row[1:] == row[:-1])) if batch > 1 else 0.0)
            self.expected_neighbour.append(float((counts * (counts - 1)).sum() / max(1, batch * (batch - 1))))
        tokens = np.array(table["n_tokens"].to_pylist()).reshape(-1, batch)
        rng = np.random.default_rng(0)
        flat_arms, flat_tokens = arms.ravel(), tokens.ravel()
        orders = [rng.permutation(flat_arms.size) for _ in range(20)]
        chance = [self._unevenness(flat_arms[o].reshape(-1, batch), flat_tokens[o].reshape(-1, batch)) for o in orders]
        found = self._unevenness(arms, tokens)
        self.unevenness.append((found, float(np.mean(chance))))

    @staticmethod
    def _unevenness(arms: np.ndarray, tokens: np.ndarray) -> float:
        shares = np.stack([(tokens * (arms == arm)).sum(axis=1) / tokens.sum(axis=1) for arm in np.unique(arms)])
        return float(shares.var(axis=1).sum())

    def check_shares(self) -> None:
        """Cumulative realised tokens follow the cumulative stated mixture to within a few documents."""
        for arm, held in self.pool.arms.items():
            if self.at[arm][0] >= self.info["drawing"]["max_epochs"]:
                continue  # spent: it was given all there was
            slack = 2 * max(max(a["tokens"]) for a in self.pool.arms.values())
            gap = abs(self.got[arm] - self.stated[arm])
            assert gap <= slack, f"arm {arm} ({len(held['ids'])} documents): {gap:.0f} tokens from its stated share"
        found, chance = np.sum(self.unevenness, axis=0) if self.unevenness else (0.0, 0.0)
        assert found <= chance * 1.1 + 1e-12, f"batches are less even than a random order: {found} against {chance}"
        if self.same_neighbour:
            gap = abs(float(np.mean(self.same_neighbour)) - float(np.mean(self.expected_neighbour)))
            spread = 4 / np.sqrt(sum(1 for _ in self.same_neighbour) * self.info["global_batch"]) + 0.02
            assert gap <= spread, f"neighbours in a batch are of one arm {gap:.3f} more or less often than by chance"
