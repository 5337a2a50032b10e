"""Rounds of tokens: what a shard holds against the pool's texts, shares of tokens, restarts, refusals."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError, ManifestError, PrereqError
from prereq.selector.corpus.tokens import BytesTokenizer
from prereq.selector.rounds.manifest import read_chain, read_manifest
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.sampler import Sampler
from prereq.selector.rounds.samples import SamplesConfig

PACKED = SamplesConfig(kind="packed", seq_len=128, bos=256, eos=257, pad=3)


@pytest.fixture
def make_packed(make_driver: Callable[..., Any]) -> Callable[..., Any]:
    """`make_packed("name", **settings)`: a run of packed rows; its samplers encode bytes."""

    def make(name: str = "run", samples: SamplesConfig = PACKED, **settings: Any) -> Any:
        run = make_driver(name, samples=samples, **settings)

        def sampler(on_event: Any = lambda kind, facts: None) -> Sampler:
            pool = Pool(run.pool.folder.name)
            return Sampler(run.run, run.info(), pool, run.mixer, run.config, on_event, BytesTokenizer().encode)

        run.sampler = sampler
        return run

    return make


def texts_of(run: Any) -> dict[str, str]:
    parts = [pq.read_table(path) for path in Path(run.pool.folder.name).glob("part-*.parquet")]
    return {row["id"]: row["text"] for part in parts for row in part.to_pylist()}


def table_of(run: Any, number: int) -> pa.Table:
    folder = run.folder / f"rounds/{number:06d}"
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("shard-*"))])


def test_a_packed_round_holds_its_documents_whole_and_once(make_packed):
    run = make_packed(rounds=3)
    run.finish()
    texts = texts_of(run)
    for manifest in read_chain(run.run):
        table = table_of(run, manifest.round)
        assert table.column_names == ["input_ids", "lengths", "ids", "arms", "skills", "n_tokens", "starts"]
        tokens: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
        realised: Counter[str] = Counter()
        for row in table.to_pylist():
            at = 0
            for length, name, arm, own, start in zip(
                row["lengths"], row["ids"], row["arms"], row["n_tokens"], row["starts"], strict=True
            ):
                tokens[name].update(enumerate(row["input_ids"][at : at + length], start))
                realised[arm] += own
                at += length
            assert row["input_ids"][at:] == [3] * (128 - at)
        expected = {name: Counter(enumerate([256, *texts[name].encode(), 257])) for name in tokens}
        assert tokens == expected
        assert realised == manifest.realised
        used = sum(sum(row) for row in table["lengths"].to_pylist())
        assert manifest.packing == {
            "seq_len": 128,
            "pieces": sum(map(len, table["lengths"].to_pylist())),
            "special": 2 * manifest.documents,
            "padding": 32 * 128 - used,
        }
        assert (manifest.samples, manifest.documents, manifest.tokens) == (32, len(tokens), sum(realised.values()))


def test_shares_of_tokens_hold_over_packed_rounds(make_packed):
    run = make_packed(mixer="uniform", rounds=6, samples=SamplesConfig(kind="packed", seq_len=64))
    run.finish()
    got: Counter[str] = Counter()
    stated: Counter[str] = Counter()
    for manifest in read_chain(run.run):
        got.update(manifest.realised)
        stated.update({arm: weight * manifest.tokens for arm, weight in manifest.mixture["arms"].items()})
    assert len(got) == 4
    assert all(abs(got[arm] - stated[arm]) <= 200 for arm in got), "about a document, in the documents' own tokens"


def test_restarts_and_repairs_give_the_same_packed_bytes(make_packed):
    run = make_packed(rounds=5, batches_per_round=2)
    expected = run.finish()
    for last in range(5):
        twin = run.copy(f"killed-{last}")
        for number in range(last, 5):
            (twin.folder / f"rounds/{number:06d}/manifest.json").unlink()
        (twin.folder / "done.json").unlink()
        again = make_packed(twin.folder.name, rounds=5, batches_per_round=2)
        assert again.finish() == expected
    shard = read_manifest(run.run, 2).shards[0]
    path = run.folder / f"rounds/000002/{shard.path}"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + bytes(40))
    assert run.sampler().repair(2) == 1
    assert path.read_bytes() == whole


def test_rows_of_documents_with_their_tokens(make_packed):
    run = make_packed(samples=SamplesConfig(kind="tokens", eos=256), rounds=1)
    run.finish()
    table = table_of(run, 0)
    assert table.column_names[:6] == ["id", "text", "n_tokens", "arm", "skills", "source"]
    for row in table.to_pylist():
        assert row["input_ids"] == [*row["text"].encode(), 256]
        assert row["n_tokens"] == len(row["text"])
    assert read_manifest(run.run, 0).packing is None


def test_the_run_is_bound_to_its_samples_and_old_runs_stay_the_same(make_packed, make_driver):
    make_packed("one", rounds=1).info()
    with pytest.raises(ConfigError, match=r"samples\.seq_len was 128, is 64"):
        make_packed("one", samples=SamplesConfig(kind="packed", seq_len=64, bos=256, eos=257, pad=3)).info()
    assert "samples" not in make_driver("plain").config.drawing_keys()


def test_other_tokens_than_the_pool_counted_are_refused(make_packed):
    run = make_packed(rounds=1, mixer="uniform")
    pool = Pool(run.pool.folder.name)
    half = Sampler(
        run.run, run.info(), pool, run.mixer, run.config, encode=lambda text: BytesTokenizer().encode(text)[::2]
    )
    with pytest.raises(ManifestError, match=r"the tokenizer gives \d+ tokens, the pool was counted with"):
        half.run()
    with pytest.raises(ConfigError, match="need a tokenizer"):
        Sampler(run.run, run.info(), pool, run.mixer, run.config).run()


def test_a_document_longer_than_a_round_is_an_error_that_says_what_to_do(make_packed):
    run = make_packed(mixer="uniform", samples=SamplesConfig(kind="packed", seq_len=2), batches_per_round=1)
    with pytest.raises(PrereqError, match="does not fit into a round of 8 rows"):
        run.sampler().run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "bits"}, "not one of text, tokens, packed"),
        ({"kind": "packed", "seq_len": 1}, "must be 2 or more"),
        ({"kind": "tokens", "eos": -1}, "must be a token number"),
        ({"eos": 5}, "go with samples.kind tokens or packed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        SamplesConfig(**change)


def test_names_of_tokens_become_numbers():
    named = SamplesConfig(kind="packed", bos="<s>", eos=7, pad="<pad>")
    assert named.numbered({"<s>": 1, "<pad>": 0}.__getitem__) == SamplesConfig(kind="packed", bos=1, eos=7, pad=0)
    with pytest.raises(ConfigError, match="has no token named"):
        named.numbered(BytesTokenizer().number)


def test_a_manifest_with_a_wrong_kind_of_packing_is_refused(make_packed):
    run = make_packed(rounds=1)
    run.finish()
    path = run.folder / "rounds/000000/manifest.json"
    value = json.loads(path.read_bytes())
    value["packing"]["padding"] = "none"
    path.write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(ManifestError, match="padding is 'none', expected a whole number"):
        read_manifest(run.run, 0)
