"""Models from a local folder: what they give, where it may not come from, and what is said of one that is not right.

The tests make their own small models: an ONNX graph of an embedding table, and a random BERT.
"""

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prereq.graph.errors import ConfigError, PrereqError
from prereq.selector.corpus import text_models
from prereq.selector.corpus.text_models import embed_texts, model_digest

WORDS = ["[UNK]", "[PAD]", *(f"w{number}" for number in range(20))]
TABLE = np.random.default_rng(0).standard_normal((len(WORDS), 6)).astype(np.float32)
TEXTS = ["w1 w2 w3", "w4", "w5 w1 w1 w7 w9 w2", "what", "w19 w0"]


def write_tokenizer(folder: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_onnx(folder: Path, *, pooled: bool = False, inputs: tuple[str, ...] = ("input_ids", "attention_mask")) -> str:
    """A graph that looks each token up in `TABLE`; `pooled`: a second output holds the first token's row."""
    onnx = pytest.importorskip("onnx", reason="onnx makes the model that this tests")
    pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto
    given = [helper.make_tensor_value_info(name, kinds.INT64, ["n", "t"]) for name in inputs]
    nodes = [helper.make_node("Gather", ["table", inputs[0]], ["last_hidden_state"])]
    outputs = [helper.make_tensor_value_info("last_hidden_state", kinds.FLOAT, ["n", "t", 6])]
    constants = [onnx.numpy_helper.from_array(TABLE, "table"), onnx.numpy_helper.from_array(np.int64(0), "first")]
    if pooled:
        nodes.append(helper.make_node("Gather", ["last_hidden_state", "first"], ["sentence_embedding"], axis=1))
        outputs.append(helper.make_tensor_value_info("sentence_embedding", kinds.FLOAT, ["n", 6]))
    graph = helper.make_graph(nodes, "lookup", given, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    write_tokenizer(folder)
    onnx.save(model, str(folder / "model.onnx"))
    return str(folder)


def embed(folder: str, texts: list[str], method: str = "onnx", batch_size: int = 2, max_tokens: int = 512) -> Any:
    return embed_texts(texts, method, folder, model_digest(folder), batch_size, max_tokens)  # type: ignore[arg-type]


def rows_of(text: str) -> np.ndarray:
    return TABLE[[WORDS.index(word) if word in WORDS else 0 for word in text.split()]].astype(np.float64)


def test_onnx_vectors_are_means_over_a_texts_own_tokens(tmp_path: Path) -> None:
    folder = write_onnx(tmp_path / "m")
    expected = [rows_of(text).mean(axis=0) for text in TEXTS]
    for batch_size in (1, 2, 100):
        np.testing.assert_allclose(embed(folder, TEXTS, batch_size=batch_size), expected, atol=1e-6)
    cut = [rows_of(text)[:2].mean(axis=0) for text in TEXTS]
    np.testing.assert_allclose(embed(folder, TEXTS, max_tokens=2), cut, atol=1e-6)


def test_onnx_output_that_is_pooled_already_is_taken(tmp_path: Path) -> None:
    folder = write_onnx(tmp_path / "m", pooled=True)
    np.testing.assert_allclose(embed(folder, TEXTS), [rows_of(text)[0] for text in TEXTS], atol=1e-6)


def test_the_digest_is_that_of_names_and_content(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "x.bin").write_bytes(b"1")
    first = model_digest(str(tmp_path / "a"))
    assert model_digest(str(tmp_path / "b")) == first
    (tmp_path / "b" / ".cache").write_bytes(b"hidden")
    assert model_digest(str(tmp_path / "b")) == first
    (tmp_path / "b" / "sub" / "x.bin").write_bytes(b"2")
    assert model_digest(str(tmp_path / "b")) != first
    (tmp_path / "a" / "sub" / "x.bin").rename(tmp_path / "a" / "x.bin")
    assert model_digest(str(tmp_path / "a")) != first


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder 'BAAI/bge-small' .*models are not downloaded"):
        model_digest("BAAI/bge-small")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no file"):
        model_digest(str(tmp_path / "empty"))
    write_tokenizer(tmp_path / "half")
    pytest.importorskip("onnxruntime")
    with pytest.raises(ConfigError, match=r"has no model\.onnx or onnx/model\.onnx"):
        embed(str(tmp_path / "half"), TEXTS)
    with pytest.raises(ConfigError, match=r"has no modules\.json"):
        embed(str(tmp_path / "half"), TEXTS, "sentence_transformers")
    (tmp_path / "half" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="half cannot be loaded"):
        embed(str(tmp_path / "half"), TEXTS)
    with pytest.raises(ConfigError, match="takes pixels, attention_mask; expected input_ids"):
        embed(write_onnx(tmp_path / "other", inputs=("pixels", "attention_mask")), TEXTS)


def test_another_model_under_the_same_path_is_refused(tmp_path: Path) -> None:
    folder = write_onnx(tmp_path / "m")
    with pytest.raises(ConfigError, match="does not hold the files that the build began with"):
        embed_texts(TEXTS, "onnx", folder, "0" * 64, 2, 512)


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokenizer(tmp_path / "m")
    (tmp_path / "m" / "modules.json").write_text("[]")

    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(text_models.importlib, "import_module", absent)
    for method, library in (("onnx", "onnxruntime"), ("sentence_transformers", "sentence_transformers")):
        with pytest.raises(PrereqError, match=rf"needs {library}, .*pip install 'prereq\[models\]'"):
            embed(str(tmp_path / "m"), TEXTS, method)


@pytest.mark.slow
def test_sentence_transformers_from_a_folder_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random BERT with mean pooling: the same as transformers and a mean by hand; no socket is opened."""
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules", reason="needs prereq[models]")
    library, transformers = pytest.importorskip("sentence_transformers"), pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was looked for on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    write_tokenizer(tmp_path / "bert")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "bert" / "tokenizer.json"), unk_token="[UNK]", pad_token="[PAD]"
    )
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    torch.manual_seed(0)
    bert = transformers.BertModel(
        transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, pad_token_id=1, **sizes)
    ).eval()
    bert.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    parts = [modules.Transformer(str(tmp_path / "bert")), modules.Pooling(8)]
    library.SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path / "st"))

    threads = torch.get_num_threads()
    found = embed(str(tmp_path / "st"), TEXTS, "sentence_transformers", max_tokens=4)
    assert torch.get_num_threads() == threads
    expected = []
    for text in TEXTS:
        ids = torch.tensor([tokenizer.encode(text)[:4]])
        with torch.no_grad():
            expected.append(bert(input_ids=ids).last_hidden_state[0].mean(dim=0).numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    again = embed(str(tmp_path / "st"), TEXTS, "sentence_transformers", max_tokens=4)
    assert again.tobytes() == found.tobytes()

    config = json.loads((tmp_path / "st" / "modules.json").read_text())
    config[0]["type"] = "evil.Module"
    (tmp_path / "st" / "modules.json").write_text(json.dumps(config))
    (tmp_path / "st" / "evil.py").write_text("raise SystemExit('code of the folder was run')")
    with pytest.raises(ConfigError, match="st cannot be loaded"):
        embed(str(tmp_path / "st"), TEXTS, "sentence_transformers")
