"""Aliases and patterns: known sentences, a second implementation, and texts made to be slow."""

import random
import time
import unicodedata

import pytest

from prereq.graph.errors import GraphError, TableError
from prereq.graph.skill import Skill
from prereq.selector.corpus.normalise import normalise
from prereq.selector.corpus.patterns import WINDOW, SkillMatcher, _windows, is_word_character, pattern_limit

LOOPS = Skill(id="loops", aliases=("loop", "for loop", "iteration"), patterns=(r"^\s*(?:for|while)\b.*:$",))
LISTS = Skill(id="lists", name="Lists", aliases=("list", "list comprehension"), patterns=(r"\.append\(", r"\[\]"))
CPP = Skill(id="cpp", aliases=("C++", ".format"))
SKILLS = (LOOPS, LISTS, CPP)


def found(text: str, *skills: Skill, **options: object) -> dict[str, int]:
    known = skills or SKILLS
    return {known[i].id: n for i, n in SkillMatcher(known, **options).hits(text).items()}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("A for loop repeats.", {"loops": 1}),  # both aliases end at the same place
        ("A LOOP, then an Iteration", {"loops": 2}),
        ("listing enlists a listless my_list list2", {}),
        ("a list.", {"lists": 1}),
        ("a list\n    comprehension", {"lists": 2}),  # two aliases with different ends
        ("C++ and c++11, not ac++", {"cpp": 2}),
        ("use '{}'.format(x)", {"cpp": 1}),
        ("for x in y:\n    z.append(x)\n", {"loops": 1, "lists": 1}),
        ("FOR x in y:", {}),  # patterns see case
        ("", {}),
        ("the ﬁrst ｌｏｏｐ", {"loops": 1}),  # full-width letters: NFKC
    ],
)
def test_known_texts(text: str, hits: dict[str, int]) -> None:
    assert found(text) == hits


def test_code_and_prose_give_several_skills() -> None:
    text = '"""Collect with a for loop; the result is a list."""\nout = []\nwhile work:\n    out.append(work.pop())\n'
    assert found(text) == {"loops": 2, "lists": 3}


def test_scripts_without_blanks_need_no_word_border() -> None:
    chinese = Skill(id="loops", aliases=("循环", "loop"))
    assert found("使用循环结构", chinese) == {"loops": 1}
    assert found("使用loop结构", chinese) == {"loops": 1}
    assert found("äloop loopß", chinese) == {}
    assert is_word_character("é")
    assert is_word_character("\u0301")  # a mark continues a word
    assert not is_word_character("–")


def test_names_are_aliases_only_when_asked_for() -> None:
    skill = Skill(id="x", name="Recursion")
    assert found("recursion", skill) == {}
    assert found("recursion", skill, match_names=True) == {"x": 1}


def test_an_alias_of_two_skills_hits_both() -> None:
    assert found("a closure", Skill(id="a", aliases=("closure",)), Skill(id="b", aliases=("Closure",))) == {
        "a": 1,
        "b": 1,
    }


def test_only_the_beginning_is_read() -> None:
    text = "x " * 50 + "loop []"
    assert found(text, max_characters=100) == {}
    assert found(text, max_characters=200) == {"loops": 1, "lists": 1}


def test_matches_do_not_depend_on_windows_of_lines() -> None:
    """A text of many windows has the hits of its lines, and anchors see real line ends only."""
    lines = ["for a in b:", "c.append(1)", "x" * 300, "plain"] * 40
    assert len("\n".join(lines)) > 3 * WINDOW
    assert found("\n".join(lines)) == {"loops": 40, "lists": 40}
    anchored = Skill(id="a", patterns=("^x",))
    assert found("y" * (2 * WINDOW - 5) + "x" * WINDOW, anchored) == {}


def test_invalid_patterns_are_refused() -> None:
    with pytest.raises(GraphError, match=r"'broken'.*not a regular expression"):
        SkillMatcher([Skill(id="broken", patterns=("(",))])


def test_aliases_agree_with_brute_force() -> None:
    rng = random.Random(3)
    alphabet = "aab .-_é循"
    for _ in range(300):
        terms = {"".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 5))) for _ in range(6)}
        skills = [Skill(id=f"s{i}", aliases=(term,)) for i, term in enumerate(sorted(t for t in terms if t.strip()))]
        if not skills:
            continue
        text = "".join(rng.choice(alphabet + "A\n") for _ in range(60))
        expected = {s.id: n for s in skills if (n := _count(normalise(text), normalise(s.aliases[0])))}
        assert found(text, *skills) == expected


def _count(text: str, term: str) -> int:
    """Whole-word occurrences, position by position."""

    def letter(character: str) -> bool:
        return character == "_" or (
            unicodedata.category(character)[0] in "LMN" and not "\u3400" <= character <= "\u9fff"
        )

    def open_at(place: int, inside: str) -> bool:
        return not (0 <= place < len(text) and letter(text[place]) and letter(inside))

    starts = [i for i in range(len(text)) if text.startswith(term, i)]
    return sum(open_at(i - 1, term[0]) and open_at(i + len(term), term[-1]) for i in starts)


def test_skipping_by_literals_changes_nothing() -> None:
    matcher = SkillMatcher(SKILLS)
    searching = SkillMatcher(SKILLS)
    searching._always = list(range(len(searching._patterns)))
    rng = random.Random(9)
    pieces = ["for ", "while ", ":", "\n", ".append(", "[", "]", "x", " loop "]
    for _ in range(200):
        text = "".join(rng.choice(pieces) for _ in range(30))
        assert matcher.hits(text) == searching.hits(text)


@pytest.mark.parametrize("text", ["x" * 60_000, "\n" * 60_000, "(" * 60_000, "for " * 15_000])
def test_hostile_texts_end_soon(text: str) -> None:
    """Patterns of quadratic time that no literal spares: about a second; minutes if they saw the whole text."""
    slow = Skill(id="slow", patterns=(r"\w+\(\w", r"^\s*def", r"[^)]*\)", r"\bfor .* in .*:$"), aliases=("for x",))
    start = time.process_time()
    SkillMatcher([slow]).hits("( def ) for in :\n" + text)
    assert time.process_time() - start < 20


def test_windows_cover_a_text_and_are_short_and_end_lines_where_they_can() -> None:
    rng = random.Random(2)
    for _ in range(50):
        lines = ["x" * rng.choice([0, 10, 100, WINDOW - 1, WINDOW, 3 * WINDOW]) for _ in range(rng.randrange(20))]
        text = "\n".join(lines)
        spans = list(_windows(text))
        assert "".join(text[start:end] for start, end in spans) == text
        assert all(0 < end - start <= WINDOW for start, end in spans)
        for start, end in spans[:-1]:
            assert text[end - 1] == "\n" or "\n" not in text[start:end]


def test_text_without_matches_holds_none_and_keeps_the_rest() -> None:
    matcher = SkillMatcher(SKILLS)
    text = "Each FOR\nloop walks parseHTTPHeader;\n\nfor x in y:\n    rows.append(A) # List"
    left = matcher.without_matches(text)
    assert left == "Each walks parseHTTPHeader; rows A) #"
    assert matcher.hits(left) == {}


def test_text_without_matches_drops_words_that_change_length_in_normal_form() -> None:
    matcher = SkillMatcher([Skill(id="s", aliases=("strasse",)), Skill(id="t", aliases=("x y",))])
    assert matcher.without_matches("die Straße, x  y z") == "die z"


def test_text_without_matches_on_random_texts_never_hits_by_alias() -> None:
    rng = random.Random(4)
    matcher = SkillMatcher([Skill(id="s", aliases=("ab", "b a", "ß", "é"))])
    for _ in range(500):
        text = "".join(rng.choice("abß é\u00a8Ａ.") for _ in range(20))
        words = set(normalise(matcher.without_matches(text)).split())
        assert "ab" not in words
        assert "é" not in words


def test_cutting_matches_out_is_held_to_the_time_limit_too() -> None:
    matcher = SkillMatcher([Skill(id="bad", patterns=("(?:a+)+b",))])
    with pattern_limit(matcher, 0.2) as begin:
        begin("slow")
        with pytest.raises(TableError, match=r"document 'slow': .* of skill 'bad'"):
            matcher.without_matches("a" * 60 + " ab")
