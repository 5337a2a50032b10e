"""Documents to vectors by a model of the user's own that lies in a local folder: sentence-transformers or ONNX.

Nothing is downloaded and no code of the folder is run. One thread, the CPU and batches of a fixed order: the same
folder, texts and settings give the same vectors on the same kind of machine, however many workers there are. A batch is
padded to its longest text, so `batch_size` and part borders may move a vector's last bits.
"""

import hashlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prereq.graph.canonical import digest
from prereq.graph.errors import ConfigError, PrereqError

ModelMethod = Literal["sentence_transformers", "onnx"]
Encoder = Callable[[list[str], int], npt.NDArray[Any]]  # texts and batch size to (n, d)
LIBRARIES = {
    "sentence_transformers": ("sentence-transformers", "tokenizers", "torch", "transformers"),
    "onnx": ("numpy", "onnxruntime", "tokenizers"),
}

_ONNX_FILES = ("model.onnx", "onnx/model.onnx")  # where exporters put it
_ONNX_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_SENTENCE = "sentence_embedding"  # name of an output that is pooled already


def model_digest(folder: str) -> str:
    """What makes two models the same: names and content of the folder's files, hidden ones left out.

    Raises:
        ConfigError: There is no such folder, nothing is in it, or a file cannot be read.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ConfigError(
            f"embedding.model_path: there is no folder {folder!r} (from {os.getcwd()}); models are not downloaded, "
            "name a local folder"
        )
    files = [path for path in sorted(root.rglob("*")) if not _is_hidden(path.relative_to(root)) and path.is_file()]
    if not files:
        raise ConfigError(f"embedding.model_path: {folder} holds no file")
    try:
        return digest([[path.relative_to(root).as_posix(), _sha256(path)] for path in files])
    except OSError as error:
        raise ConfigError(f"embedding.model_path: {error.filename or folder} cannot be read: {error}") from error


def embed_texts(
    texts: Sequence[str], method: ModelMethod, folder: str, expected: str, batch_size: int, max_tokens: int
) -> npt.NDArray[Any]:
    """Vectors of texts as the model gives them, `(n, d)`.

    Args:
        texts: Documents.
        method: What the folder holds.
        folder: Where the model lies.
        expected: `model_digest` where the build began.
        batch_size: Texts that go through the model at a time.
        max_tokens: Tokens of a text that are read; fewer where the model says so.

    Raises:
        PrereqError: A library is missing, or the model fails.
        ConfigError: The folder holds no such model, or not the expected one.
    """
    encode = _load(method, folder, expected, max_tokens)
    try:
        vectors = encode(list(texts), batch_size)
    except PrereqError:
        raise
    except Exception as error:
        raise PrereqError(f"embedding.model_path: the model in {folder} failed: {error}") from error
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise PrereqError(
            f"embedding.model_path: the model in {folder} gave shape {vectors.shape} for {len(texts)} texts; expected "
            "a vector for each"
        )
    return vectors


@lru_cache(maxsize=1)
def _load(method: ModelMethod, folder: str, expected: str, max_tokens: int) -> Encoder:
    """One per process: loading takes seconds, and every part asks for it."""
    if model_digest(folder) != expected:
        raise ConfigError(
            f"embedding.model_path: {folder} does not hold the files that the build began with; let every node have "
            "the same files there and leave them alone while a build runs"
        )
    load = {"sentence_transformers": _load_sentence_transformers, "onnx": _load_onnx}[method]
    return load(Path(folder).expanduser(), max_tokens)


def _load_sentence_transformers(folder: Path, max_tokens: int) -> Encoder:
    if not (folder / "modules.json").is_file():
        raise ConfigError(
            f"embedding.model_path: {folder} has no modules.json, so it is no model that sentence-transformers saved"
        )
    library, torch = _library("sentence_transformers"), _library("torch")
    with _offline(), _without_progress():
        try:
            model = library.SentenceTransformer(
                str(folder), device="cpu", local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            raise ConfigError(f"embedding.model_path: {folder} cannot be loaded: {error}") from error
    own = model.max_seq_length
    model.max_seq_length = max_tokens if own is None else min(own, max_tokens)

    def encode(texts: list[str], batch_size: int) -> npt.NDArray[Any]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums depend on the number
        try:
            with _offline():
                return np.asarray(model.encode(texts, batch_size=batch_size, show_progress_bar=False))
        finally:
            torch.set_num_threads(threads)

    return encode


def _load_onnx(folder: Path, max_tokens: int) -> Encoder:
    runtime, tokenizers = _library("onnxruntime"), _library("tokenizers")
    path = next((folder / name for name in _ONNX_FILES if (folder / name).is_file()), None)
    if path is None or not (folder / "tokenizer.json").is_file():
        missing = "tokenizer.json" if path else " or ".join(_ONNX_FILES)
        raise ConfigError(f"embedding.model_path: {folder} has no {missing}; the method onnx needs both files")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # sums depend on the number
    options.log_severity_level = 3
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConfigError(f"embedding.model_path: {folder} cannot be loaded: {error}") from error
    inputs = {entry.name: np.int32 if entry.type == "tensor(int32)" else np.int64 for entry in session.get_inputs()}
    if not inputs.keys() <= _ONNX_INPUTS or "input_ids" not in inputs:
        raise ConfigError(
            f"embedding.model_path: {path} takes {', '.join(inputs)}; expected input_ids and some of "
            f"{', '.join(sorted(_ONNX_INPUTS - {'input_ids'}))}"
        )
    outputs = [entry.name for entry in session.get_outputs()]
    output = _SENTENCE if _SENTENCE in outputs else outputs[0]
    own = tokenizer.truncation
    tokenizer.enable_truncation(min(max_tokens, own["max_length"]) if own else max_tokens)
    padding = tokenizer.padding
    tokenizer.no_padding()
    pad = padding["pad_id"] if padding else tokenizer.token_to_id("[PAD]") or tokenizer.token_to_id("<pad>") or 0

    def encode(texts: list[str], batch_size: int) -> npt.NDArray[Any]:
        found = [np.asarray(entry.ids, dtype=np.int64) for entry in tokenizer.encode_batch(texts)]
        order = np.argsort([len(ids) for ids in found], kind="stable")
        vectors: dict[int, npt.NDArray[Any]] = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size].tolist()
            ids, mask = _padded([found[row] for row in rows], pad)
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            (values,) = session.run([output], {name: given[name].astype(kind) for name, kind in inputs.items()})
            vectors.update(zip(rows, _pooled(values, mask), strict=True))
        return np.stack([vectors[row] for row in range(len(texts))])

    return encode


def _padded(found: Sequence[npt.NDArray[np.int64]], pad: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids `(n, longest)`, at least one column, and where they are tokens."""
    longest = max(1, *(len(ids) for ids in found))
    ids = np.full((len(found), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(found):
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
    return ids, mask


def _pooled(values: npt.NDArray[Any], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """`(n, d)`: the mean over a text's tokens of `(n, tokens, d)`; what is pooled already stays."""
    if values.ndim != 3:
        return values.astype(np.float64)
    weights = mask[:, :, None].astype(np.float64)
    return np.asarray((values * weights).sum(axis=1) / np.maximum(1, weights.sum(axis=1)))


@contextmanager
def _offline() -> Iterator[None]:
    """A model whose files name others must not fetch them."""
    constants: Any = _library("huggingface_hub.constants")
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _without_progress() -> Iterator[None]:
    """Loading draws no bars over the build's own."""
    logging = _library("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PrereqError(
            f"embedding.method: this needs {error.name or name}, which is not installed: pip install 'prereq[models]'"
        ) from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
