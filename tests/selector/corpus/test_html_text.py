"""Pages become the text that a reader sees."""

import pytest

from prereq.selector.corpus.html_text import decode_page, html_text

pytest.importorskip("selectolax")


def body(markup: str) -> str:
    return html_text(f"<html><body>{markup}</body></html>")[1]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>one <b>two</b> three</p>", "one two three"),
        ("foo<b>bar</b><i> baz</i>", "foobar baz"),
        ("<h1>Title</h1><p>one\n  two</p><p>three</p>", "Title\n\none two\n\nthree"),
        ("<div>a</div><div>b<br>c</div>d", "a\nb\nc\nd"),
        ("<ul><li>a<li>b</ul>c", "a\nb\n\nc"),
        ("<table><tr><td>a<td>b<tr><td>c</table>", "a b\nc"),
        ("<p>code:</p><pre>if x:\n    y()</pre><p>end</p>", "code:\n\nif x:\n    y()\n\nend"),
        ("a<script>alert('x')</script><style>p {}</style><!-- note --> b", "a b"),
        ("<nav><a>Home</a></nav><main>text</main><footer>(c)</footer>", "text"),
        ("&lt;p&gt; &amp;amp; &#228;", "<p> &amp; ä"),
        ("<p>never <b>closed", "never closed"),
        ("", ""),
        ("<p> </p>", ""),
    ],
)
def test_blocks_become_lines_and_inline_elements_do_not(markup: str, text: str):
    assert body(markup) == text


def test_the_title_is_apart_and_one_line():
    assert html_text("<title> A \n page </title>text") == ("A page", "text")


def test_a_page_may_nest_as_deep_as_it_likes():
    assert body("<div>" * 20_000 + "deep" + "</div>" * 20_000 + "end") == "deep\nend"


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("ä€".encode(), None, "ä€"),
        ("ä€".encode("cp1252"), "iso-8859-1", "ä€"),
        ("привет".encode("koi8-r"), "KOI8-R", "привет"),
        ('<meta charset="shift_jis">日本'.encode("shift_jis"), None, '<meta charset="shift_jis">日本'),
        ("日本".encode("utf-16"), "shift_jis", "日本"),
        (b"a\xffb", "utf-8", "a\ufffdb"),
        (b"abc", "unicode_escape", "abc"),
        (b"abc", "zlib", "abc"),
        (b"abc", "no such thing", "abc"),
    ],
)
def test_a_page_is_read_in_its_encoding_or_as_utf8(data: bytes, charset: str | None, text: str):
    assert decode_page(data, charset) == text
