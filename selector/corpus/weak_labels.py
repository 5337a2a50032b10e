"""What a document says of its skills by itself: the labels that the data states, and the graph's terms in its text.

Both are weak: labels name a lesson's topic and not all that it uses, a term may be mentioned in passing. They are what
tags are made of, and what a classifier learns from (`selector.corpus.skill_classifier`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from prereq.graph.errors import TableError
from prereq.graph.skill import nearest
from prereq.selector.corpus.keys import id_keys
from prereq.selector.corpus.patterns import SkillMatcher, pattern_limit

# one row per document; `skills` in graph order, by position; `hits` of its aliases and patterns; `stated` by the data
WEAK_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.uint64()),  # `keys.id_keys` of the id
        ("skills", pa.list_(pa.int32())),
        ("hits", pa.list_(pa.int32())),
        ("stated", pa.list_(pa.bool_())),
    ]
)


@dataclass(frozen=True, slots=True)
class LabelReader:
    """Turns the labels of the data into positions in the graph.

    Args:
        positions: Skill id -> position; ids that were merged into another skill stand for that one.
        ignore_unknown: Leave unknown labels out instead of raising.
    """

    positions: Mapping[str, int]
    ignore_unknown: bool = False

    @classmethod
    def of(cls, ids: Sequence[str], merged: Mapping[str, str], ignore_unknown: bool) -> "LabelReader":
        """From a graph's ids and its map of merged ids (`SkillGraph.merged`)."""
        positions = {skill_id: place for place, skill_id in enumerate(ids)}
        return cls({**{old: positions[new] for old, new in merged.items()}, **positions}, ignore_unknown)

    def read(self, labels: Iterable[str], document: str, place: str) -> tuple[set[int], int]:
        """Positions of a document's labels, and how many labels were ignored.

        Raises:
            TableError: A label is not a skill of the graph.
        """
        found, ignored = set(), 0
        for label in labels:
            if label in self.positions:
                found.add(self.positions[label])
            elif self.ignore_unknown:
                ignored += 1
            else:
                raise TableError(
                    f"document {document!r} ({place}) is labelled with skill {label!r}, which the graph does not have"
                    f"{nearest(str(label), self.positions)}; add it to the graph, or set tagging.unknown_labels: ignore"
                )
        return found, ignored


def weak_labels(
    documents: pa.Table,
    *,
    reader: LabelReader | None,
    matcher: SkillMatcher | None,
    min_hits: int,
    timeout_s: float,
) -> tuple[pa.Table, dict[str, int]]:
    """What labels and terms say of some documents.

    Args:
        documents: With columns id, text, place, labels.
        reader: Reads labels; None: labels are not used.
        matcher: Finds terms; None: terms are not looked for.
        min_hits: Hits from which on a skill counts.
        timeout_s: Seconds that the patterns of one document may take.

    Returns:
        A table of `WEAK_SCHEMA`, row by row, and the counts documents, stated, matched (documents with a skill of that
        kind) and ignored labels.

    Raises:
        TableError: An unknown label, or patterns that take longer than `timeout_s` in one document.
    """
    ids = documents["id"].to_pylist()
    hits = _hits(ids, documents["text"], matcher, timeout_s) if matcher else [{}] * len(ids)
    rows = []
    counts = {"documents": len(ids), "stated": 0, "matched": 0, "ignored labels": 0}
    places = documents["place"].to_pylist()
    columns = (ids, id_keys(ids).tolist(), places, documents["labels"].to_pylist(), hits)
    for document, key, place, labels, found in zip(*columns, strict=True):
        stated, ignored = reader.read(labels or (), document, place) if reader else (set(), 0)
        matched = {skill for skill, number in found.items() if number >= min_hits}
        skills = sorted(matched | stated)
        rows.append(
            {
                "id": document,
                "key": key,
                "skills": skills,
                "hits": [found.get(skill, 0) for skill in skills],
                "stated": [skill in stated for skill in skills],
            }
        )
        counts["stated"] += bool(stated)
        counts["matched"] += bool(matched)
        counts["ignored labels"] += ignored
    return pa.Table.from_pylist(rows, schema=WEAK_SCHEMA), counts


def _hits(ids: Sequence[str], texts: pa.ChunkedArray, matcher: SkillMatcher, timeout_s: float) -> list[dict[int, int]]:
    found = []
    with pattern_limit(matcher, timeout_s) as begin:
        for document, text in zip(ids, texts, strict=True):
            begin(document)
            found.append(matcher.hits(text.as_py()))
    return found
