"""The interpreter's own library as a corpus: whole definitions, each line once, always the same."""

import sysconfig
from pathlib import Path

import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.stdlib_source import MAX_CHARACTERS, MIN_CHARACTERS, definitions, module_name, stdlib_files

MODULE = b'''"""A module."""
import functools

LIMIT = 3

@functools.cache
def outer(value):
    """Return a number that depends on the value, after a helper saw it."""
    def inner(other):
        return other + LIMIT
    return inner(value)

class Shape:
    """A shape with an area that its subclasses know and this class does not."""

    sides = 0

    def short(self): return self.sides

    def name(self):
        return "shape of " + str(self.sides)

    @property
    # why this is a property
    def area(self):
        # a comment over the body
        """The area, computed the long way round."""
        total = 0
        for side in range(self.sides):
            total += side
        return total

    @area.setter
    def area(self, value):
        """Set the area, which also sets the sides, one for each unit of it."""
        self.sides = value
        self.other = value
        self.third = value

    class Inner:
        """A class inside a class, with enough of a docstring to be a document of its own."""

if LIMIT:
    async def later(queue):
        """Wait for the queue, then give back what was in it, but twice."""
        item = await queue.get()
        return item, item
'''


def found(data: bytes) -> dict[str, str]:
    return {definition.qualname: definition.text for definition in definitions(data)}


def test_functions_methods_and_classes_are_documents():
    documents = found(MODULE)
    assert list(documents) == ["outer", "Shape", "Shape.area", "Shape.area#2", "Shape.Inner", "later"]
    assert documents["outer"].startswith("@functools.cache\ndef outer(value):")
    assert documents["outer"].endswith("return inner(value)")
    assert documents["later"].startswith("async def later(queue):\n    ")


def test_a_method_is_dedented_with_its_decorators():
    assert found(MODULE)["Shape.area"].splitlines()[:3] == [
        "@property",
        "# why this is a property",
        "def area(self):",
    ]


def test_a_class_is_an_outline_of_what_is_not_a_document_itself():
    assert (
        found(MODULE)["Shape"]
        == '''class Shape:
    """A shape with an area that its subclasses know and this class does not."""

    sides = 0

    def short(self): return self.sides

    def name(self):
        return "shape of " + str(self.sides)

    @property
    # why this is a property
    def area(self):
        ...

    @area.setter
    def area(self, value):
        ...

    class Inner:
        ...'''
    )


def test_lines_are_the_first_of_each_definition():
    lines = MODULE.decode().split("\n")
    for definition in definitions(MODULE):
        first = definition.text.split("\n")[0]
        assert lines[definition.line - 1].strip() == first


def test_odd_sources_are_read():
    text = 'def f():\r\n    """Latin é, a form feed \x0c and a string\r\nat the margin: enough to be kept."""\r\n'
    (document,) = definitions(b"# coding: latin-1\n" + text.encode("latin-1") + b"    return '\\d'\n")
    assert "é" in document.text
    assert "\r" not in document.text
    assert "\nat the margin" in document.text
    assert list(definitions(b"")) == []
    assert list(definitions(b"x = lambda: 0\n")) == []


def test_length_decides_what_is_a_document():
    long = "def f():\n" + "    x = 1\n" * 2000
    assert list(definitions(b"def f():\n    pass\n")) == []
    assert list(definitions(long.encode())) == []


def test_module_names():
    assert module_name("json/decoder.py") == "json.decoder"
    assert module_name("json/__init__.py") == "json"
    assert module_name("abc.py") == "abc"


def test_the_library_is_large_sorted_and_without_its_tests():
    names = [name for name, _ in stdlib_files()]
    assert names == sorted(names)
    assert {"json/decoder.py", "abc.py", "asyncio/queues.py"} <= set(names)
    parts = {part for name in names for part in name.split("/")}
    assert not parts & {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "pydoc_data"}


@pytest.mark.slow
def test_the_library_gives_thousands_of_different_documents():
    texts, ids = [], set()
    for name, path in stdlib_files():
        for definition in definitions(Path(path).read_bytes()):
            texts.append(definition.text)
            ids.add((name, definition.qualname))
    assert 6_000 <= len(texts) <= 15_000
    assert len(ids) == len(texts)
    assert all(MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS for text in texts)


def test_a_library_without_sources_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path / "python311.zip"))
    with pytest.raises(ConfigError, match=r"python311\.zip has no \.py files"):
        stdlib_files()
