"""MinHash signatures and locality-sensitive bands, equal to datasketch's and computed a batch of documents at a time.

`signatures` gives what `datasketch.MinHash(num_perm, seed, scheme="affine32", hashfunc=lambda h: h & 0xFFFFFFFF)` gives
after updates with the same shingle hashes; permutations and band sizes come from datasketch itself.
"""

import numpy as np
import numpy.typing as npt

from prereq.selector.corpus.shingles import HashArray, IntArray, mix

SignatureArray = npt.NDArray[np.uint32]
SketchArray = npt.NDArray[np.uint8]

BLOCK = 1 << 16  # shingles at a time: the working arrays stay in a core's second-level cache


def permutations(num_perm: int, seed: int) -> SignatureArray:
    """datasketch's permutations h -> a h + b mod 2**32: `(2, num_perm)`, a (odd) and b."""
    from datasketch import MinHash

    drawn: SignatureArray = MinHash(num_perm=num_perm, seed=seed, scheme="affine32").permutations
    return drawn


def choose_bands(threshold: float, num_perm: int, weights: tuple[float, float]) -> tuple[int, int]:
    """(bands, rows) that minimise the weighted area of false positives and false negatives around the threshold.

    Args:
        threshold: Jaccard similarity, in (0, 1].
        num_perm: The product of both is at most this.
        weights: Of false positives and of false negatives; they sum to 1.
    """
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=num_perm, weights=weights)
    return int(index.b), int(index.r)


def collision_probability(similarity: float, bands: int, rows: int) -> float:
    """The share of pairs of this Jaccard similarity that meet in at least one band: 1 - (1 - s**rows)**bands."""
    return float(1.0 - (1.0 - similarity**rows) ** bands)


def signatures(hashes: HashArray, offsets: IntArray, permuted: SignatureArray) -> SignatureArray:
    """The smallest value of each permutation over each document's shingles.

    Args:
        hashes: Shingles `(s,)` of all documents, as `shingle` returns them; the lower 32 bits count.
        offsets: `(d + 1,)`; no document is empty.
        permuted: `(2, p)`, from `permutations`.

    Returns:
        `(d, p)` uint32.

    Source:
        Broder 1997, "On the resemblance and containment of documents"; the permutations are datasketch 2.0's affine32.
    """
    documents, width = len(offsets) - 1, permuted.shape[1]
    result = np.empty((documents, width), dtype=np.uint32)
    lo = 0
    while lo < documents:
        hi = int(np.searchsorted(offsets, offsets[lo] + BLOCK, side="right")) - 1
        hi = min(max(hi, lo + 1), documents)
        block = _premix(hashes[offsets[lo] : offsets[hi]].astype(np.uint32))
        result[lo:hi] = _minima(block, offsets[lo:hi] - offsets[lo], permuted).T
        lo = hi
    return result


def band_keys(signed: SignatureArray, bands: int, rows: int) -> HashArray:
    """One 64-bit key per band `(bands, d)`: equal where all `rows` values of the band are equal, else by chance 2**-64.

    Args:
        signed: `(d, p)` signatures; the first `bands * rows` values are used, `rows` consecutive ones a band.
        bands: Number of bands.
        rows: Values per band.
    """
    keys = np.empty((bands, len(signed)), dtype=np.uint64)
    for band in range(bands):
        key = np.full(len(signed), band, dtype=np.uint64)
        for row in range(band * rows, (band + 1) * rows):
            key = mix(key + signed[:, row])
        keys[band] = key
    return keys


def sketches(signed: SignatureArray) -> SketchArray:
    """The low byte of each signature value `(d, p)`: enough to tell that two documents can't reach the threshold.

    Source:
        Li and König 2010, "b-bit minwise hashing", arXiv:0910.3349, with b = 8: values that differ agree with chance
        1/256, so the share of equal bytes overestimates similarity a little, never systematically underestimates it.
    """
    return signed.astype(np.uint8)


def _premix(values: SignatureArray) -> SignatureArray:
    """The 32-bit finaliser of MurmurHash3, which datasketch applies once before its permutations."""
    values ^= values >> np.uint32(16)
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values


def _minima(values: SignatureArray, starts: IntArray, permuted: SignatureArray) -> SignatureArray:
    """`(p, d)` minima of a * values + b (wrapping) over the runs that begin at `starts`."""
    minima = np.empty((permuted.shape[1], len(starts)), dtype=np.uint32)
    moved = np.empty_like(values)
    for index in range(permuted.shape[1]):
        np.multiply(values, permuted[0, index], out=moved)
        np.add(moved, permuted[1, index], out=moved)
        np.minimum.reduceat(moved, starts, out=minima[index])
    return minima
