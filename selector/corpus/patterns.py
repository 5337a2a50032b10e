"""Finding skills in a text by what the graph says of them: aliases as whole words, patterns as regular expressions.

The cost of a document is bounded: only its first `max_characters` are read, aliases take one pass whatever their
number, and a regular expression sees windows of at most `WINDOW` characters, so that a pattern of quadratic time costs
a fraction of a second where it would take minutes on one giant line. `selector.corpus.watchdog` ends what is worse.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import ahocorasick

from prereq.graph.errors import TableError
from prereq.graph.skill import Skill, compile_pattern
from prereq.selector.corpus.normalise import normalise, normalise_word
from prereq.selector.corpus.pattern_literals import required_literals
from prereq.selector.corpus.watchdog import time_limit

WINDOW = 4096  # characters that a regular expression sees at once; no match crosses the border of a window

# Scripts written without blanks between words: Thai, Lao, Burmese, Khmer, kana, Han. No word border can be asked for.
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_ASCII_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class SkillMatcher:
    """All aliases and patterns of a graph, ready to be looked for.

    An alias is compared in the normal form of `normalise` (NFKC, casefolded, white space runs as one blank), so case
    and line breaks do not matter. Where it begins or ends with a word character, none may stand next to it there. A
    pattern is Python `re` with MULTILINE on the text as it is, case and all.

    Args:
        skills: In the order of the graph; a skill is named by its position from here on.
        match_names: Look for the skills' names as if they were aliases.
        max_characters: Of each text, only so many from its start are read.

    Raises:
        GraphError: A pattern does not compile or matches the empty text.
    """

    def __init__(self, skills: Sequence[Skill], *, match_names: bool = False, max_characters: int = 100_000) -> None:
        self.max_characters = max_characters
        self.trying = ""  # what is being looked for right now, for a message when it takes too long
        self._aliases = _alias_automaton(skills, match_names)
        self._patterns = [
            (index, compile_pattern(pattern, f"skill {skill.id!r}"), f"pattern {pattern!r} of skill {skill.id!r}")
            for index, skill in enumerate(skills)
            for pattern in skill.patterns
        ]
        self._always, self._literals = _literal_automaton([pattern.pattern for _, pattern, _ in self._patterns])

    def hits(self, text: str) -> dict[int, int]:
        """How often each skill occurs, by its position; skills that do not occur are absent.

        Matches of one pattern do not overlap. Two aliases of a skill that end at the same place are one hit; matches of
        different patterns, or of an alias and a pattern, all count.
        """
        self.trying = "the aliases"
        found: dict[int, int] = {}
        last: dict[int, int] = {}
        for _start, end, skills in self._alias_spans(normalise(text[: self.max_characters])):
            for skill in skills:
                if last.get(skill) != end:
                    last[skill] = end
                    found[skill] = found.get(skill, 0) + 1
        for skill, _start, _end in self._pattern_spans(text):
            found[skill] = found.get(skill, 0) + 1
        return found

    def without_matches(self, text: str) -> str:
        """The text's first `max_characters` with all that was found in it left out, white space runs as one blank.

        Learning from it teaches a classifier the company that a skill keeps instead of the terms by which it was found.
        """
        spans = [(start, end) for _skill, start, end in self._pattern_spans(text)]
        rest = _cut_out(text[: self.max_characters], spans)
        words = rest.split()
        # of ASCII the normal form is its lower case, character for character
        normal = rest.lower().split() if rest.isascii() else [normalise_word(word) for word in words]
        starts = list(accumulate(map((1).__add__, map(len, normal)), initial=0))  # of each word and the blank behind it
        cuts: dict[int, list[tuple[int, int]]] = {}  # word -> spans in it
        for start, end, _skills in self._alias_spans(" ".join(normal)):
            for row in range(bisect_right(starts, start) - 1, bisect_right(starts, end - 1)):
                cuts.setdefault(row, []).append((max(0, start - starts[row]), end - starts[row]))
        for row, found in cuts.items():
            # where the normal form is not character for character the word itself, the word goes as a whole
            same = len(normal[row]) == len(words[row])
            words[row] = _cut_out(words[row], found) if same else ""
        return " ".join(" ".join(words).split())

    def _alias_spans(self, normal: str) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """Start, end and skills of each whole-word alias in a text in normal form, by end."""
        if self._aliases is None:
            return
        size = len(normal)
        for last, (length, word_start, word_end, skills) in self._aliases.iter(normal):
            start, end = last + 1 - length, last + 1
            if word_end and end < size and is_word_character(normal[end]):
                continue
            if word_start and start and is_word_character(normal[start - 1]):
                continue
            yield start, end, skills

    def _pattern_spans(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Skill, start and end of each match of a pattern, pattern by pattern."""
        text = text[: self.max_characters]
        windows = list(_windows(text))
        for place in self._possible(text):
            index, pattern, self.trying = self._patterns[place]
            for start, end in windows:
                for match in pattern.finditer(text, start, end):
                    if match.end() > match.start():
                        yield index, match.start(), match.end()

    def _possible(self, text: str) -> list[int]:
        """The patterns whose literals the text holds; the others cannot match."""
        possible = set(self._always)
        if self._literals is not None:
            for places in {places for _end, places in self._literals.iter(text)}:
                possible.update(places)
        return sorted(possible)


@contextmanager
def pattern_limit(matcher: SkillMatcher | None, timeout_s: float) -> Iterator[Callable[[str], None]]:
    """Hold each document's matching to `timeout_s` seconds (0: no limit) inside a `with` block.

    Yields a function to be called with the id of each document right before it is matched.

    Raises:
        TableError: One took longer; names the document, the pattern and its skill.
    """
    document = ""

    def describe() -> TableError:
        return TableError(
            f"document {document!r}: {matcher.trying if matcher else 'nothing'} takes more than "
            f"tagging.pattern_timeout_s = {timeout_s:g} s; rewrite the pattern so that no repeat holds another one, or "
            "lower tagging.max_characters"
        )

    with time_limit(timeout_s if matcher else 0, describe) as restart:

        def begin(name: str) -> None:
            nonlocal document
            document = name
            restart()

        yield begin


def is_word_character(character: str) -> bool:
    """Whether a character continues a word: a letter, digit, mark or `_` of a script that puts blanks between words."""
    if character in _ASCII_WORD:
        return True
    if character < "\x80":
        return False
    return unicodedata.category(character)[0] in "LMN" and not _SPACELESS.match(character)


def _alias_automaton(skills: Sequence[Skill], match_names: bool) -> ahocorasick.Automaton | None:
    """An Aho-Corasick automaton over all aliases in normal form, or None where there is none."""
    owners: dict[str, list[int]] = {}
    for index, skill in enumerate(skills):
        terms = [*skill.aliases, *([skill.name] if match_names else [])]
        for term in sorted({normalise(term) for term in terms} - {""}):
            owners.setdefault(term, []).append(index)
    if not owners:
        return None
    automaton = ahocorasick.Automaton()
    for term, indices in owners.items():
        entry = (len(term), is_word_character(term[0]), is_word_character(term[-1]), tuple(indices))
        automaton.add_word(term, entry)
    automaton.make_automaton()
    return automaton


def _literal_automaton(patterns: Sequence[str]) -> tuple[list[int], ahocorasick.Automaton | None]:
    """Places of the patterns that need no literal, and an automaton from a literal to the patterns that need it."""
    users: dict[str, list[int]] = {}
    always = []
    for place, pattern in enumerate(patterns):
        literals = required_literals(pattern)
        if not literals:
            always.append(place)
        for literal in literals:
            users.setdefault(literal, []).append(place)
    if not users:
        return always, None
    automaton = ahocorasick.Automaton()
    for literal, places in users.items():
        automaton.add_word(literal, tuple(places))
    automaton.make_automaton()
    return always, automaton


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Cut a text into spans of at most WINDOW characters, behind a line's end where there is one."""
    start, size = 0, len(text)
    while size - start > WINDOW:
        newline = text.rfind("\n", start, start + WINDOW)
        end = newline + 1 if newline >= start else start + WINDOW
        yield start, end
        start = end
    if start < size:
        yield start, size


def _cut_out(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with every span replaced by one blank; spans may overlap."""
    kept, position = [], 0
    for start, end in sorted(spans):
        if start > position:
            kept.append(text[position:start])
        position = max(position, end)
    kept.append(text[position:])
    return " ".join(kept)
