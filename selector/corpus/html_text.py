"""The text that a reader of an HTML page sees: paragraphs and lines as the page's elements make them.

Parsed by selectolax (Lexbor, which mends broken pages as browsers do). Left out is what is not shown and what is not
the page's own text: scripts, styles, forms' controls, navigation, asides and footers. Nothing is executed or fetched.
"""

import codecs
import re
from typing import Any

_SKIPPED = frozenset(
    {"head", "script", "style", "noscript", "template", "svg", "canvas", "iframe", "object", "audio", "video", "map"}
    | {"nav", "aside", "footer", "button", "select", "textarea", "dialog", "math"}
)
_PARAGRAPHS = frozenset(
    {"p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "ul", "ol", "dl", "table", "hr", "figure"}
)
_LINES = frozenset(
    {"address", "article", "body", "caption", "center", "dd", "details", "div", "dt", "fieldset", "figcaption", "form"}
    | {"header", "legend", "li", "main", "section", "summary", "tr"}
)
_CELLS = frozenset({"td", "th"})
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META_BYTES = 1024  # in which a page must say its encoding
_META = re.compile(rb"<meta[^>]{0,256}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
# encodings of the web that a page may ask for, by Python's name of them; anything else is read as UTF-8
_WEB_ENCODINGS = frozenset(
    {"utf-8", "utf-16", "utf-16-le", "utf-16-be", "gbk", "gb2312", "gb18030", "big5", "big5hkscs", "shift_jis", "cp932"}
    | {"euc_jp", "iso2022_jp", "euc_kr", "cp949", "koi8-r", "koi8-u", "cp866", "mac-roman", "tis-620", "cp874"}
    | {f"cp125{digit}" for digit in range(9)}
    | {f"iso8859-{number}" for number in range(2, 17)}
)


def html_text(page: str) -> tuple[str, str]:
    """The title and the text of a page.

    Runs of white space are one space, except in `pre`; a paragraph, heading, list or table is set off by an empty
    line, any other block by a line end, table cells by a space.
    """
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(page)
    title = tree.css_first("title")
    body = tree.body
    words = "" if title is None else " ".join(str(title.text(deep=True) or "").split())
    return words, "" if body is None else _Text().of(body)


def decode_page(data: bytes, charset: str | None) -> str:
    """The characters of a page, as browsers read it: U+FFFD in the place of what its encoding does not know.

    Args:
        data: The page.
        charset: As its HTTP header says; a byte order mark stands above it, what the page says of itself below it.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    said = _META.search(data[:_META_BYTES])
    for label in (charset, said.group(1).decode("ascii", "replace") if said else None):
        if label and (known := _encoding(label)):
            return data.decode(known, "replace")
    return data.decode("utf-8", "replace")


def _encoding(name: str) -> str | None:
    try:
        found = codecs.lookup(name.strip().strip("\"'")).name
    except (LookupError, ValueError):
        return None
    if found in ("iso8859-1", "ascii"):
        return "cp1252"  # what pages mean by Latin-1
    return found if found in _WEB_ENCODINGS else None


class _Text:
    """Walks a tree without recursion (pages nest as deep as they like) and puts its text together."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._break = 0  # line ends that are due before the next word: 0, 1 or 2
        self._space = False  # whether white space is due before it

    def of(self, root: Any) -> str:
        node, preformatted = root, 0
        while True:
            tag = str(node.tag)
            entered = not tag.startswith("-") and tag not in _SKIPPED
            if tag == "-text":
                self._add(node.text_content or "", preformatted > 0)
            elif entered:
                self._open(tag)
                preformatted += tag == "pre"
                if node.child is not None:
                    node = node.child
                    continue
                preformatted -= self._close(tag)
            while node.mem_id != root.mem_id and node.next is None:
                node = node.parent
                preformatted -= self._close(node.tag)
            if node.mem_id == root.mem_id:
                return "".join(self._parts)
            node = node.next

    def _open(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self._break = 2
        elif tag in _LINES:
            self._break = max(self._break, 1)
        elif tag in _CELLS:
            self._space = True
        elif tag == "br":
            self._break = min(2, self._break + 1)

    def _close(self, tag: str) -> int:
        """Set the break behind an element; return 1 where it was a `pre`."""
        if tag != "br":
            self._open(tag)
        return int(tag == "pre")

    def _add(self, text: str, preformatted: bool) -> None:
        words = text if preformatted else " ".join(text.split())
        if not words.strip():
            self._space = self._space or bool(text)
            if not preformatted or not words:
                return
        if self._parts and self._break:
            self._parts.append("\n" * self._break)
        elif self._parts and not preformatted and (self._space or text[0].isspace()):
            self._parts.append(" ")
        self._parts.append(words)
        self._break, self._space = 0, text[-1].isspace() and not preformatted
