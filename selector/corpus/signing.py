"""What deduplication keeps of each text: content digest, length, MinHash band keys and sketch. One pass, no pairs."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prereq.selector.corpus.duplicates import DuplicatesConfig
from prereq.selector.corpus.minhash import SketchArray, band_keys, permutations, signatures, sketches
from prereq.selector.corpus.normalise import CONTENT_BYTES, normalise
from prereq.selector.corpus.shingles import HashArray, IntArray, chunks, shingle


@dataclass(frozen=True, slots=True)
class Signed:
    """Of `n` texts, row by row.

    Args:
        content: `(n, CONTENT_BYTES)` bytes of `content_digest`.
        lengths: `(n,)` characters of the normal form.
        bands: `(bands, n)` band keys; no bands without near duplicates.
        sketches: `(n, num_perm)`, or `(n, 0)` without near duplicates.
    """

    content: npt.NDArray[np.uint8]
    lengths: IntArray
    bands: HashArray
    sketches: SketchArray


def sign(texts: Iterable[Sequence[str]], config: DuplicatesConfig) -> Signed:
    """Sign batches of texts; memory is that of a batch, plus `num_perm` + 8 `bands` + 24 bytes per text."""
    permuted = permutations(config.num_perm, config.seed) if config.near else None
    bands, rows = config.banding() if config.near else (0, 0)
    digests: list[bytes] = []
    lengths: list[int] = []
    keys = [np.empty((bands, 0), dtype=np.uint64)]
    sketched = [np.empty((0, config.num_perm if config.near else 0), dtype=np.uint8)]
    for batch in texts:
        normal = [normalise(text) for text in batch]
        lengths += [len(text) for text in normal]
        digests += [_digest(text) for text in normal]
        if permuted is None:
            continue
        for chunk in chunks(normal):
            signed = signatures(*shingle(chunk, config.ngram, config.unit), permuted)
            keys.append(band_keys(signed, bands, rows))
            sketched.append(sketches(signed))
    content = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, CONTENT_BYTES)
    sketch_bytes = np.concatenate(sketched) if permuted is not None else np.empty((len(lengths), 0), dtype=np.uint8)
    band_columns = (
        np.concatenate(keys, axis=1) if permuted is not None else np.empty((0, len(lengths)), dtype=np.uint64)
    )
    return Signed(content, np.array(lengths, dtype=np.int64), band_columns, sketch_bytes)


def _digest(normal: str) -> bytes:
    # content_digest of the text, without finding its normal form a second time; a test holds the two together
    return hashlib.sha256(normal.encode("utf-8", "surrogatepass")).digest()[:CONTENT_BYTES]
