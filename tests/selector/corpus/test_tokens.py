"""Tokenizers: counts agree with what is encoded."""

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
