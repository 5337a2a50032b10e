"""Text to words, the same way for embeddings, cluster names and classifiers."""

import re

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # written without spaces: one word per character
_WORD = re.compile(rf"[A-Z]{{1,40}}(?=[A-Z][a-z])|[A-Z]?[^\W\d_A-Z{_CJK}]{{1,40}}|[A-Z]{{1,40}}|\d{{1,40}}|[{_CJK}]")
_NUMBER = re.compile(r"^\d+$", re.MULTILINE)


def split_words(text: str, max_characters: int = 100_000) -> list[str]:
    """The words of prose or code, in order, in lower case.

    Identifiers are split at underscores and at camel case (`parseHTTPHeader` -> parse, http, header); a number becomes
    `#1` to `#4`, by its length, which says "a number" and nothing of its value; punctuation is dropped; Chinese and
    Japanese characters stand alone; runs of letters over 40 characters are cut. Time is linear in the text.

    Args:
        text: Any text.
        max_characters: What lies behind is not read, so that one huge document costs no more than a long one.
    """
    found = "\n".join(_WORD.findall(text[:max_characters])).lower()
    return _NUMBER.sub(lambda m: f"#{min(4, len(m[0]))}", found).split("\n") if found else []
