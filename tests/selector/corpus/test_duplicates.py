"""The rules of deduplication, against brute force over sets of strings."""

import gzip
import json
import random
from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.corpus import duplicates
from prereq.selector.corpus.duplicates import DuplicatesConfig, find_duplicates, gathered, survivor_order
from prereq.selector.corpus.normalise import normalise
from prereq.selector.corpus.shingles import shingle_sets
from prereq.selector.corpus.signing import sign

EVERY_PAIR = DuplicatesConfig(bands=128, rows=1)  # any pair that shares anything to speak of meets in a band


class TextCorpus:
    """A corpus in memory."""

    def __init__(self, texts, config, ids=None, scores=()):
        self.texts, self.config, self.given_scores = texts, config, scores
        self.names = ids or [f"d{row:05d}" for row in range(len(texts))]
        self.documents = len(texts)
        self.signed = sign([texts], config)
        self.read = 0  # shingle sets handed out

    def content(self):
        return self.signed.content.view("<u8").T

    def lengths(self):
        return self.signed.lengths

    def scores(self):
        return np.array(self.given_scores, dtype=np.float64)

    def bands(self, first, stop, rows=None):
        return self.signed.bands[first:stop] if rows is None else self.signed.bands[first:stop, rows]

    def sketches(self, rows):
        return self.signed.sketches[rows]

    def ids(self, rows):
        return pa.array([self.names[row] for row in rows], pa.string())

    def shingle_sets(self, rows):
        self.read += len(rows)
        return shingle_sets([normalise(self.texts[row]) for row in rows], self.config.ngram, self.config.unit)


def strings(text, config):
    units = normalise(text).split(" ") if config.unit == "word" else list(normalise(text))
    return {tuple(units[i : i + config.ngram]) for i in range(max(1, len(units) - config.ngram + 1))}


def similarity(a, b):
    return len(a & b) / len(a | b)


def brute_force(texts, ids, config):
    """Survivor and component of every text, by the stated rules and nothing else."""
    sets = [strings(text, config) for text in texts]
    order = sorted(range(len(texts)), key=lambda row: (-len(normalise(texts[row])), ids[row]))
    survivor = {}
    for place, row in enumerate(order):
        kept = [other for other in order[:place] if survivor[other] == other]
        equal = [other for other in kept if normalise(texts[other]) == normalise(texts[row])]
        near = [other for other in kept if similarity(sets[other], sets[row]) >= config.threshold]
        survivor[row] = equal[0] if equal else max(near, key=lambda o: similarity(sets[o], sets[row]), default=row)
    component = list(range(len(texts)))
    for i, j in combinations(range(len(texts)), 2):
        if similarity(sets[i], sets[j]) >= config.threshold:
            a, b = sorted((component[i], component[j]))
            component = [a if c == b else c for c in component]
    return [survivor[row] for row in range(len(texts))], component


def families(rng, count, members, words=60, swaps=4):
    """Texts in families: each a base text with a few words changed, so that similarities lie all around 0.8."""
    vocabulary = [f"word{number}" for number in range(3000)]
    texts = []
    for _ in range(count):
        base = rng.choices(vocabulary, k=rng.randrange(3, words))
        for _ in range(members):
            own = list(base)
            for _ in range(rng.randrange(swaps)):
                own[rng.randrange(len(own))] = rng.choice(vocabulary)
            if rng.random() < 0.2:
                own += rng.choices(vocabulary, k=rng.randrange(1, 8))
            texts.append("  ".join(own).upper() if rng.random() < 0.3 else " ".join(own))
    rng.shuffle(texts)
    return texts


@pytest.mark.parametrize("unit", ["word", "character"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_survivors_and_components_equal_brute_force(seed, unit):
    rng = random.Random(seed)
    texts = [*families(rng, 25, 5), "", " ", "a b", "A  b"]
    ids = [f"{rng.randrange(10**9):09d}" for _ in texts]
    config = DuplicatesConfig(bands=128, rows=1, unit=unit, ngram=2 if unit == "word" else 4)
    found = find_duplicates(TextCorpus(texts, config, ids), config)
    survivor, component = brute_force(texts, ids, config)
    assert found.survivor.tolist() == survivor
    assert found.component.tolist() == component
    assert 10 < len(found.dropped) < len(texts)


def test_the_similarity_is_that_of_the_sets_of_strings_and_kind_says_what_is_equal():
    texts = families(random.Random(4), 20, 5)
    found = find_duplicates(TextCorpus(texts, EVERY_PAIR), EVERY_PAIR)
    assert len(found.dropped)
    for row in found.dropped.tolist():
        other = int(found.survivor[row])
        assert found.survivor[other] == other
        expected = similarity(strings(texts[row], EVERY_PAIR), strings(texts[other], EVERY_PAIR))
        assert found.similarity[row] == expected >= EVERY_PAIR.threshold
        assert found.exact[row] == (normalise(texts[row]) == normalise(texts[other]))


def words(*ranges):
    return " ".join(f"w{number:05d}" for start, stop in ranges for number in range(start, stop))


def test_no_chain_drops_a_document_that_no_kept_one_resembles():
    """a ~ b and b ~ c, but a and c are too far apart: b goes, both others stay, and all belong together."""
    a, b, c = words((0, 103)), words((5, 106)), words((14, 114))
    config = DuplicatesConfig(bands=128, rows=1, ngram=1)
    assert similarity(strings(a, config), strings(c, config)) < 0.8
    found = find_duplicates(TextCorpus([c, b, a], config), config)
    assert found.survivor.tolist() == [0, 2, 2]
    assert found.component.tolist() == [0, 0, 0]
    # b overlaps a in 98 of 106 words and c in 92 of 109
    assert found.similarity[1] == 98 / 106


def test_the_most_similar_kept_document_is_the_survivor_not_the_first():
    far, near, text = words((0, 100), (200, 210)), words((0, 88), (300, 313)), words((0, 88), (300, 310))
    config = DuplicatesConfig(bands=128, rows=1, ngram=1, threshold=0.75)
    assert similarity(strings(far, config), strings(near, config)) < 0.75
    assert similarity(strings(far, config), strings(text, config)) < similarity(
        strings(near, config), strings(text, config)
    )
    found = find_duplicates(TextCorpus([far, near, text], config), config)
    assert found.survivor.tolist() == [0, 1, 1]


def test_of_equal_texts_the_smallest_id_stays_and_of_similar_ones_the_longest():
    long, short = words((0, 100)), words((0, 95))
    config = DuplicatesConfig(bands=128, rows=1)
    corpus = TextCorpus([short, long, f" {long.upper()}\n"], config, ids=["a", "c", "b"])
    found = find_duplicates(corpus, config)
    assert found.survivor.tolist() == [2, 2, 2]
    assert found.exact.tolist() == [False, True, False]


def test_an_exact_duplicate_of_a_dropped_text_gets_a_kept_survivor():
    long, short = words((0, 100)), words((0, 95))
    found = find_duplicates(TextCorpus([short, long, short], EVERY_PAIR), EVERY_PAIR)
    assert found.survivor.tolist() == [1, 1, 1]
    assert found.exact.tolist() == [False, False, False]
    assert found.similarity[0] == found.similarity[2] == 91 / 96


def test_keep_first_goes_by_place_in_the_corpus():
    long, short = words((0, 100)), words((0, 95))
    config = DuplicatesConfig(keep="first")
    found = find_duplicates(TextCorpus([short, long, short], config), config)
    assert found.survivor.tolist() == [0, 0, 0]
    assert survivor_order(np.array([1, 3, 2]), pa.array(["x", "y", "z"]), "first").tolist() == [0, 1, 2]


def test_keep_score_goes_by_score_then_length():
    long, short = words((0, 100)), words((0, 95))
    config = DuplicatesConfig(keep="score", score="quality")
    for scores, survivors in (
        ([1, 1, 2], [2, 2, 2]),  # the best, though shorter and not the first
        ([1, 1, 1], [1, 1, 1]),  # of equal ones the longest
        ([-np.inf, -np.inf, -1e300], [2, 2, 2]),  # any number is better than none
    ):
        found = find_duplicates(TextCorpus([short, long, short], config, scores=scores), config)
        assert found.survivor.tolist() == survivors
    with pytest.raises(ConfigError, match=r"dedup.score and dedup.keep: score go together"):
        DuplicatesConfig(score="quality")


def test_switched_off_everything_stays_but_components_are_still_known():
    texts = families(random.Random(6), 10, 4)
    on, off = EVERY_PAIR, DuplicatesConfig(bands=128, rows=1, enabled=False)
    found = find_duplicates(TextCorpus(texts, off), off)
    assert len(found.dropped) == 0
    np.testing.assert_array_equal(found.component, find_duplicates(TextCorpus(texts, on), on).component)


def test_exact_only_drops_and_connects_equal_texts_alone():
    config = DuplicatesConfig(near=False)
    texts = [words((0, 100)), words((0, 99)), "x", words((0, 100)).upper(), "X"]
    found = find_duplicates(TextCorpus(texts, config), config)
    assert found.survivor.tolist() == [0, 1, 2, 0, 2]
    assert found.component.tolist() == [0, 1, 2, 0, 2]
    kept = find_duplicates(TextCorpus(texts, config), DuplicatesConfig(near=False, exact=False))
    assert (len(kept.dropped), kept.component.tolist()) == (0, [0, 1, 2, 0, 2])


@pytest.mark.parametrize("texts", [[], ["one"]])
def test_tiny_corpora_work(texts):
    found = find_duplicates(TextCorpus(texts, EVERY_PAIR), EVERY_PAIR)
    assert found.survivor.tolist() == list(range(len(texts)))


def test_the_default_bands_find_nearly_all_planted_near_duplicates():
    """Recall at .8 is at least that of 18 bands of 7 rows, 98.5 %, less three deviations of 400 pairs."""
    rng = random.Random(7)
    vocabulary = [f"word{number}" for number in range(20_000)]
    texts, planted = [], 0
    for _ in range(400):
        base = rng.choices(vocabulary, k=200)
        changed = list(base)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(200)] = "other"
        texts += [" ".join(base), " ".join(changed)]
        planted += similarity(strings(texts[-1], EVERY_PAIR), strings(texts[-2], EVERY_PAIR)) >= 0.8
    found = find_duplicates(TextCorpus(texts, DuplicatesConfig()), DuplicatesConfig())
    assert planted > 350
    assert planted * 0.967 <= len(found.dropped) <= planted


def test_batches_of_candidates_change_nothing(monkeypatch):
    texts = families(random.Random(8), 40, 4)
    whole = find_duplicates(TextCorpus(texts, EVERY_PAIR), EVERY_PAIR)
    monkeypatch.setattr(duplicates, "BATCH_CHARACTERS", 500)
    cut = find_duplicates(TextCorpus(texts, EVERY_PAIR), EVERY_PAIR)
    for name in ("survivor", "component", "similarity", "exact"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name))


def test_only_candidates_are_read_again():
    unlike = [words((1000 * n, 1000 * n + 80)) for n in range(200)]
    corpus = TextCorpus([*unlike, words((0, 79))], DuplicatesConfig())
    assert find_duplicates(corpus, DuplicatesConfig()).survivor[-1] == 0
    assert corpus.read == 2


def test_a_template_filled_in_a_thousand_ways_leaves_few_and_none_without_a_kept_survivor():
    """Every text shares every band with hundreds of others; a pair has similarity 0.83 or 1."""
    config = DuplicatesConfig()
    texts = [f"{words((0, 60))} name{n % 700} {words((60, 120))}" for n in range(1500)]
    found = find_duplicates(TextCorpus(texts, config), config)
    kept = np.flatnonzero(found.survivor == np.arange(len(texts)))
    assert len(kept) == 1
    assert (found.similarity[found.dropped] >= config.threshold).all()
    assert set(found.component.tolist()) == {0}


def test_labels_of_the_dropped_are_gathered_sorted_for_their_survivor():
    assert gathered([["b"], [], ["a", "b"], ["c"]], [4, 5, 4, 1]) == {1: ["c"], 4: ["a", "b"]}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"threshold": 0.0}, "dedup.threshold"),
        ({"threshold": 1.1}, "dedup.threshold"),
        ({"num_perm": 0}, "dedup.num_perm"),
        ({"ngram": 0}, "dedup.ngram"),
        ({"unit": "line"}, "dedup.unit"),
        ({"keep": "best"}, "dedup.keep"),
        ({"seed": -1}, "dedup.seed"),
        ({"weights": (0.5, 0.6)}, "dedup.weights"),
        ({"bands": 16}, "go together"),
        ({"bands": 16, "rows": 9}, "fit in dedup.num_perm 128"),
        ({"bands": 0, "rows": 9}, "fit in"),
        ({"exact": False}, "needs dedup.exact"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(keys, said):
    with pytest.raises(ConfigError, match=said):
        DuplicatesConfig(**keys)


def test_the_default_banding_favours_recall():
    assert DuplicatesConfig().banding() == (18, 7)
    assert DuplicatesConfig(bands=9, rows=13).banding() == (9, 13)


def similar_pairs(sets, threshold):
    """All pairs of sets at or above the threshold, over an index of their elements; no hashing, no bands."""
    holders = defaultdict(list)
    for row, elements in sets.items():
        for element in elements:
            holders[element].append(row)
    common = Counter(pair for rows in holders.values() for pair in combinations(rows, 2))
    return [(a, b) for (a, b), n in common.items() if n / (len(sets[a]) + len(sets[b]) - n) >= threshold]


@pytest.mark.data
@pytest.mark.slow
def test_real_texts_and_code_keep_what_all_pairs_say(data_dir):
    """Six programming tracks: 406 texts repeat another, and 90 pairs of different texts reach 0.8."""
    with gzip.open(data_dir / "exercism" / "documents.jsonl.gz") as lines:
        rows = [json.loads(line) for line in lines]
    texts, ids = [row["text"] for row in rows], [row["id"] for row in rows]
    config = DuplicatesConfig()
    found = find_duplicates(TextCorpus(texts, config, ids), config)
    first = {}
    for row in sorted(range(len(texts)), key=lambda row: ids[row]):
        first.setdefault(normalise(texts[row]), row)
    sets = {row: strings(texts[row], config) for row in sorted(first.values())}
    pairs = similar_pairs(sets, config.threshold)
    assert (len(texts) - len(first), len(pairs)) == (406, 90)
    assert np.mean([found.component[a] == found.component[b] for a, b in pairs]) >= 0.97
    for row in found.dropped.tolist():
        a, b = (strings(texts[other], config) for other in (row, int(found.survivor[row])))
        assert similarity(a, b) == found.similarity[row] >= config.threshold
    # all pairs would keep 3,400: one pair just above the threshold meets in no band
    assert len(texts) - len(found.dropped) == 3401
