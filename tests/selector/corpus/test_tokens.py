"""Tokenizers: counts agree with what is encoded."""

import base64
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prereq.graph.errors import ConfigError
from prereq.selector.corpus import tokens
from prereq.selector.corpus.tokens import make_tokenizer, tokenizer_identity


@given(st.lists(st.text(), max_size=5))
def test_bytes_count_what_they_encode(texts: list[str]):
    tokenizer = make_tokenizer("bytes")
    counts = tokenizer.counts(texts)
    assert counts.tolist() == [len(text.encode()) for text in texts]
    assert counts.dtype == np.int64
    for text, count in zip(texts, counts, strict=True):
        tokens = tokenizer.encode(text)
        assert tokens.dtype == np.int32
        assert len(tokens) == count == tokenizer.count(text)
        assert bytes(tokens.tolist()).decode() == text
        assert (tokens < tokenizer.vocabulary).all()


def test_an_unknown_tokenizer_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="tokenizer 'gpt9' is unknown; the tokenizers are: bytes"):
        make_tokenizer("gpt9")


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer with a special token, cutting and padding switched on."""
    library = pytest.importorskip("tokenizers")
    engine = library.Tokenizer(library.models.BPE())
    engine.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(["the cat sat on the mat"] * 5, trainer)
    engine.post_processor = library.processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", 0)])
    engine.enable_truncation(4)
    engine.enable_padding(length=4)
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    engine.save(str(path))
    return path


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3))
def test_a_file_counts_what_it_encodes(bpe: Path, texts: list[str]):
    library = pytest.importorskip("tokenizers")
    tokenizer = make_tokenizer(str(bpe))
    plain = library.Tokenizer.from_file(str(bpe))
    for text, count in zip(texts, tokenizer.counts(texts), strict=True):
        found = tokenizer.encode(text)
        assert found.dtype == np.int32
        assert len(found) == count == tokenizer.count(text)
        assert (found < tokenizer.vocabulary).all()
        assert plain.decode(found.tolist()) == text


def test_a_file_adds_cuts_and_pads_nothing(bpe: Path):
    tokenizer = make_tokenizer(str(bpe))
    vocabulary = json.loads(bpe.read_text())["model"]["vocab"]
    assert tokenizer.encode("the the").tolist() == [vocabulary["the"], vocabulary["\u0120the"]]
    assert tokenizer.count("") == 0
    assert tokenizer.count("q" * 50) == 50
    assert 0 not in tokenizer.encode("a<|end|>b"), "a text cannot hold control tokens"


def test_a_file_is_known_by_its_content(bpe: Path, tmp_path: Path):
    copy = tmp_path / "copy.json"
    copy.write_bytes(bpe.read_bytes())
    assert tokenizer_identity(str(copy)) == tokenizer_identity(str(bpe)) != "bytes"
    copy.write_bytes(bpe.read_bytes() + b"\n")
    assert tokenizer_identity(str(copy)) != tokenizer_identity(str(bpe))
    assert tokenizer_identity("bytes") == "bytes"


def test_a_file_that_cannot_be_used_is_one_line(bpe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=r"tokenizer absent.json: cannot be read \(No such file"):
        make_tokenizer("absent.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"model": 3}')
    with pytest.raises(ConfigError, match=r"broken.json: is not a tokenizer.json that can be read"):
        make_tokenizer(str(broken))
    tokens._load.cache_clear()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"needs the library tokenizers; install prereq\[tokenizers\]"):
        make_tokenizer(str(bpe))


PATTERN = r"\p{L}+| ?\p{N}{1,3}|\s+|[^\s\p{L}\p{N}]+"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ranks as tiktoken reads them: all bytes and some merges, with the pattern beside them."""
    merges = [b"th", b"the", b"in", b"ing", b" 1", b"\xc3\xb6"]
    tokens = [*(bytes([byte]) for byte in range(256)), *merges]
    path = tmp_path_factory.mktemp("ranks") / "made.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)))
    Path(f"{path}.pattern").write_text(PATTERN + "\n")
    return path


def test_ranks_count_as_tiktoken_itself_does(ranks: Path):
    library = pytest.importorskip("tiktoken")
    table = {base64.b64decode(token): int(rank) for token, rank in map(str.split, ranks.read_text().splitlines())}
    own = library.Encoding("made", pat_str=PATTERN, mergeable_ranks=table, special_tokens={"<|end|>": 300})
    tokenizer = make_tokenizer(str(ranks))
    texts = ["the thing", "in 123 4567 things", "wörd \n\n <|end|>", "", "日本"]
    assert tokenizer.counts(texts).tolist() == [len(own.encode_ordinary(text)) for text in texts]
    for text in texts:
        assert tokenizer.encode(text).tolist() == own.encode_ordinary(text)
        assert tokenizer.count(text) == len(tokenizer.encode(text))
    assert tokenizer.encode("thing").tolist() == [256, 259]  # by hand: th + ing
    assert tokenizer.vocabulary == 262


def test_ranks_and_pattern_both_make_the_identity(ranks: Path, tmp_path: Path):
    other = tmp_path / "other.tiktoken"
    other.write_bytes(ranks.read_bytes())
    Path(f"{other}.pattern").write_text(PATTERN)
    assert tokenizer_identity(str(other)) == tokenizer_identity(str(ranks)), "where it lies does not count"
    Path(f"{other}.pattern").write_text(r"\S+|\s+")
    assert tokenizer_identity(str(other)) != tokenizer_identity(str(ranks))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data + b"dGhl\n", r"made.tiktoken:263: a line holds a token in base64 and its rank"),
        (lambda data: data + b"dGhl 7\n", r":263: the rank is out of range or the token is there twice"),
        (lambda data: data[data.index(b"\n") + 1 :], "a single byte is no token"),
        (lambda data: data + b"dGhhdA== 3\n", "two tokens share a rank"),
    ],
)
def test_damaged_ranks_are_named(ranks: Path, tmp_path: Path, change, said: str):
    pytest.importorskip("tiktoken")
    path = tmp_path / "made.tiktoken"
    path.write_bytes(change(ranks.read_bytes()))
    Path(f"{path}.pattern").write_text(PATTERN)
    with pytest.raises(ConfigError, match=said):
        make_tokenizer(str(path))


def test_ranks_without_a_pattern_or_with_a_broken_one_say_so(ranks: Path, tmp_path: Path):
    pytest.importorskip("tiktoken")
    path = tmp_path / "made.tiktoken"
    path.write_bytes(ranks.read_bytes())
    with pytest.raises(ConfigError, match=r"made.tiktoken.pattern: cannot be read .* holds the regular expression"):
        make_tokenizer(str(path))
    Path(f"{path}.pattern").write_text("(unclosed")
    with pytest.raises(ConfigError, match=r"made.tiktoken.pattern: is not a pattern that can be used"):
        make_tokenizer(str(path))
