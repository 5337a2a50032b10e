"""When two texts count as the same text: the normal form behind exact duplicates and the holdout's disjointness."""

import hashlib
import unicodedata

CONTENT_BYTES = 16  # length of a content digest


def normalise(text: str) -> str:
    """NFKC, casefolded, runs of white space as one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def normalise_word(word: str) -> str:
    """`normalise` of a text without white space, faster where it is ASCII."""
    return word.lower() if word.isascii() else normalise(word)


def content_digest(text: str) -> bytes:
    """The first 16 bytes of the sha256 of the normal form, `(CONTENT_BYTES,)`; equal for the same text."""
    return hashlib.sha256(normalise(text).encode("utf-8", "surrogatepass")).digest()[:CONTENT_BYTES]
