"""Finds ids that appear twice in a corpus of any size, with 128-bit digests in place of the ids.

Memory: 16 bytes a document for the digests and 24 more while they are sorted.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Repeats(NamedTuple):
    """The rows whose id an earlier row has, `(m,)` each, in order of row."""

    rows: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.int64]  # the first row with that id
    numbers: npt.NDArray[np.int64]  # 1 for the second row with an id, 2 for the third, ...


def id_digests(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """A 128-bit digest of each id, `(n, 2)`."""
    data = b"".join(hashlib.blake2b(name.encode(), digest_size=16).digest() for name in ids)
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2).astype(np.uint64)


def find_repeats(digests: npt.NDArray[np.uint64]) -> Repeats:
    """The repeated ids among `digests` `(n, 2)`, in the order of the corpus."""
    high = digests[:, 0]
    order = np.argsort(high, kind="stable")
    tied = high[order[1:]] == high[order[:-1]]
    # rows whose first half is shared, the only ones that can be repeats; n is large and they are few
    suspects = np.unique(np.concatenate([order[1:][tied], order[:-1][tied]]))
    keys = digests[suspects]
    by_key = np.lexsort((suspects, keys[:, 1], keys[:, 0]))
    suspects, keys = suspects[by_key], keys[by_key]
    same = np.zeros(len(suspects), dtype=bool)
    same[1:] = (keys[1:] == keys[:-1]).all(axis=1)
    # position of the first row of each run of equal digests, for every row of the run
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(suspects))))
    rows, firsts, numbers = suspects[same], suspects[first[same]], (np.arange(len(suspects)) - first)[same]
    in_order = np.argsort(rows, kind="stable")
    return Repeats(
        rows[in_order].astype(np.int64), firsts[in_order].astype(np.int64), numbers[in_order].astype(np.int64)
    )


def repeated_id(name: str, parent: str, number: int) -> tuple[str, str]:
    """(id, parent) of the `number`-th repeat of a document named by its content: `-number` behind the parent's id.

    A document that was split repeats with all its pieces, so `p#00001` becomes `p-1#00001`.
    """
    renamed = f"{parent}-{number}"
    return renamed + name.removeprefix(parent), renamed
