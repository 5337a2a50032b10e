"""How near skills are to each other by their documents: occurring together, the words of their texts, their vectors.

Arrays in, symmetric `(k, k)` arrays out; a skill without documents is near nothing (0). Reads no files.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from prereq.selector.corpus.mass import CooccurrenceGraph
from prereq.selector.corpus.word_ids import WordIndex
from prereq.selector.corpus.words import split_words

FloatArray = NDArray[np.float64]
MAX_WORDS = 20_000  # words whose shares are compared, the most frequent ones


def membership(documents: Iterable[Sequence[str]], skills: Sequence[str]) -> sparse.csr_matrix:
    """Shares `(n, k)` of documents in skills: a document splits evenly over its own.

    Raises:
        ValueError: A document names a skill that is not among `skills`.
    """
    place = {skill: number for number, skill in enumerate(skills)}
    rows: list[list[int]] = []
    for named in documents:
        unknown = sorted(set(named) - place.keys())
        if unknown:
            raise ValueError(f"unknown skills {unknown[:5]}")
        rows.append(sorted({place[skill] for skill in named}))
    counts = np.array([len(row) for row in rows], dtype=np.int64)
    columns = np.array([column for row in rows for column in row], dtype=np.int64)
    shares = np.repeat(1 / np.maximum(1, counts), counts)
    return sparse.csr_matrix((shares, columns, np.concatenate([[0], np.cumsum(counts)])), shape=(len(rows), len(place)))


def together(members: sparse.csr_matrix, measure: Literal["cosine", "mass"] = "cosine") -> FloatArray:
    """How often skills are in one document.

    Args:
        members: `(n, k)`, above 0 where a document has a skill.
        measure: `cosine`: documents with both over the geometric mean of those with either, 0 to 1; `mass`: documents
            with both, all pairs (i, j) and (j, i) adding up to 1, as the adjacency of MASS (arXiv:2503.14917).

    Raises:
        ValueError: No document has two skills.
    """
    has = (members > 0).astype(np.float64)
    counts = np.asarray((has.T @ has).todense(), dtype=np.float64)
    occurrences = np.diag(counts).copy()
    if counts.sum() <= occurrences.sum():
        raise ValueError("no document has two skills")
    if measure == "mass":
        adjacency = CooccurrenceGraph.of_counts(counts, [str(number) for number in range(len(counts))]).adjacency
        return adjacency - np.diag(np.diag(adjacency))
    scale = np.sqrt(np.outer(occurrences, occurrences))
    np.fill_diagonal(counts, 0.0)
    return np.divide(counts, scale, out=np.zeros_like(counts), where=scale > 0)


def frequent_words(texts: Iterable[str], max_characters: int) -> list[str]:
    """The words to compare by, the most frequent `MAX_WORDS` (ties in order of the alphabet)."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split_words(text, max_characters))
    return sorted(counts, key=lambda word: (-counts[word], word))[:MAX_WORDS]


def word_counts(
    texts: Sequence[str], members: sparse.csr_matrix, words: WordIndex, vocabulary: int, max_characters: int
) -> sparse.csr_matrix:
    """How often each skill's documents say each word, `(k, vocabulary)`; adds up over lots of documents.

    Args:
        texts: Of `n` documents.
        members: Their shares in skills, `(n, k)`.
        words: Over the vocabulary.
        vocabulary: Its size.
        max_characters: Of a document that are read.
    """
    numbers, offsets = words.find(texts, max_characters)
    said = sparse.csr_matrix((np.ones(len(numbers)), numbers, offsets), shape=(len(texts), vocabulary))
    said.sum_duplicates()
    return (members.T @ said).tocsr()


def word_similarity(counts: sparse.csr_matrix, measure: Literal["js", "bhattacharyya"] = "js") -> FloatArray:
    """Likeness of the skills' word distributions p, q, 1 for equal ones, 0 for such that share no word.

    Args:
        counts: `(k, v)`, 0 or more.
        measure: `js`: 1 - JS(p, q) / ln 2, JS = (KL(p | m) + KL(q | m)) / 2 with m their mean; `bhattacharyya`: the
            coefficient, sum of sqrt(p q).

    Source:
        Lin 1991, "Divergence measures based on the Shannon entropy"; Bhattacharyya 1943.
    """
    totals = np.asarray(counts.sum(axis=1)).ravel()
    shares = (sparse.diags(np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)) @ counts).tocsr()
    if measure == "bhattacharyya":
        roots = shares.sqrt()
        near = np.asarray((roots @ roots.T).todense(), dtype=np.float64)
    else:
        near = _jensen_shannon(shares)
    near = np.clip((near + near.T) / 2, 0.0, 1.0)  # rounding may leave a bit outside, and a bit between the two sides
    np.fill_diagonal(near, 0.0)
    return near


def _jensen_shannon(shares: sparse.csr_matrix) -> FloatArray:
    """1 - JS / ln 2 of rows `(k, v)`, from the words that both say alone.

    Where q = 0 the term of p is p ln 2 / 2. So JS = ln 2 - (sum over words of both of (p + q) ln 2 - p ln(2p / (p + q))
    - q ln(2q / (p + q))) / 2, and the bracket is (p + q) ln(p + q) - p ln p - q ln q.
    """
    columns, k = shares.tocsc(), shares.shape[0]
    near = np.zeros((k, k))
    for row in range(k):
        own = shares[row]
        others = columns[:, own.indices].tocoo()  # (k, w): what all skills say of this one's words
        before = others.row < row
        p, q = own.data[others.col[before]], others.data[before]
        terms = (p + q) * np.log(p + q) - p * np.log(p) - q * np.log(q)
        near[row] = np.bincount(others.row[before], weights=terms, minlength=k) / (2 * np.log(2))
    return near + near.T


def vector_similarity(sums: FloatArray) -> FloatArray:
    """Cosines of the skills' mean vectors, from their sums `(k, d)`; negative ones stay."""
    lengths = np.sqrt((sums**2).sum(axis=1, keepdims=True))
    unit = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    near = np.einsum("id,jd->ij", unit, unit)
    np.fill_diagonal(near, 0.0)
    return near
