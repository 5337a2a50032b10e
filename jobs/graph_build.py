"""`prereq graph build`: a skill graph from a built pool's documents, or from a learned influence.

    prereq graph build my.yaml --from words --top 5 --out near.json
    prereq graph build my.yaml --from learned.parquet --top 3 --out learned.json
    prereq graph build my.yaml --from words --top 5 --out near.parquet
    prereq run my.yaml --set mixer.influence.path=near.parquet

The graph has all skills of the configuration's graph, with their names, descriptions, aliases and patterns, and new
edges. A pool keeps the graph that it was built with; as a Parquet file of influence the new edges steer a run over the
same pool. The same input gives the same bytes.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from prereq.graph.build import BuiltGraph, influence_weights, prerequisite_graph, similarity_graph
from prereq.graph.errors import ConfigError, ManifestError
from prereq.graph.influence import Influence, influence_from_graph, load_influence, save_influence
from prereq.graph.load import save_edges, save_graph
from prereq.graph.skill import Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.config import InfluenceConfig, load_config, read_graph
from prereq.jobs.config_file import check_out
from prereq.jobs.diversity import find_vectors, read_vectors
from prereq.jobs.graph_command import is_graph_file, open_graph
from prereq.jobs.progress import Progress
from prereq.jobs.table import printable
from prereq.selector.corpus.keys import KeyArray, id_keys
from prereq.selector.corpus.skill_profiles import (
    frequent_words,
    membership,
    together,
    vector_similarity,
    word_counts,
    word_similarity,
)
from prereq.selector.corpus.word_ids import WordIndex
from prereq.selector.rounds.pool import Pool

MEASURES = {  # of each basis, the usual one first
    "cooccurrence": ("cosine", "mass"),
    "words": ("js", "bhattacharyya"),
    "vectors": ("cosine",),
    "influence": ("relative", "drop"),
}
_DOCUMENTS = 500  # of a skill, whose words are counted
_SHOWN = 5  # edges that are printed


@dataclass(frozen=True, slots=True, eq=False)
class SkillDocuments:
    """A pool's documents by what they are about: keys `(n,)` and shares in skills `(n, k)`, in stored order."""

    pool: Pool
    keys: KeyArray
    members: sparse.csr_matrix

    @classmethod
    def of(cls, pool: Pool) -> "SkillDocuments":
        """Reads ids and skills of all documents, 8 bytes a document and 12 for each of its skills.

        Raises:
            ManifestError: A document has a skill that the pool does not know.
        """
        keys, parts = [np.zeros(0, dtype=np.uint64)], [sparse.csr_matrix((0, len(pool.skills)))]
        for table in pool.stored_tables(("id", "skills")):
            keys.append(id_keys(table["id"].to_pylist()))
            try:
                parts.append(membership([skills or [] for skills in table["skills"].to_pylist()], pool.skills))
            except ValueError as error:
                raise ManifestError(f"{pool.folder.name}: {error}; build the pool again") from error
        return cls(pool, np.concatenate(keys), sparse.vstack(parts, format="csr"))

    def first(self, count: int) -> NDArray[np.bool_]:
        """Which documents are among the first `count` of one of their skills by key, `(n,)`: a random choice."""
        rows, skills = self.members.nonzero()
        order = np.lexsort((self.keys[rows], skills))
        borders = np.searchsorted(skills[order], np.arange(self.members.shape[1]))
        rank = np.arange(len(order)) - borders[skills[order]]
        chosen = np.zeros(len(self.keys), dtype=bool)
        chosen[rows[order[rank < count]]] = True
        return chosen

    def texts(self, chosen: NDArray[np.bool_]) -> Iterator[tuple[list[str], sparse.csr_matrix]]:
        """Texts and shares in skills of the chosen documents, a row group at a time."""
        start = 0
        for table in self.pool.stored_tables(("text",)):
            inside = np.flatnonzero(chosen[start : start + table.num_rows])
            if len(inside):
                yield table["text"].take(inside).to_pylist(), self.members[start + inside]
            start += table.num_rows


def weigh_documents(
    documents: SkillDocuments,
    basis: str,
    measure: str,
    *,
    per_skill: int = _DOCUMENTS,
    max_characters: int = 20_000,
    work_dir: str | None = None,
) -> NDArray[np.float64]:
    """How near the skills of a pool are to each other, `(k, k)`.

    Args:
        documents: Of the pool.
        basis: cooccurrence, words or vectors.
        measure: One of `MEASURES[basis]`.
        per_skill: words: documents of a skill that are read.
        max_characters: words: of a document that are read.
        work_dir: vectors: folder of the build's stages, where it is not the pool's own.

    Raises:
        ManifestError: The pool does not have what is asked for.
    """
    name = documents.pool.folder.name
    if not documents.members.nnz:
        raise ManifestError(f"{name}: no document of the pool has a skill; see `prereq inspect`, and tagging")
    if basis == "cooccurrence":
        try:
            return together(documents.members, "mass" if measure == "mass" else "cosine")
        except ValueError as error:
            raise ManifestError(
                f"{name}: {error}, so none occur together; use --from words or vectors, or tag with several skills"
            ) from error
    if basis == "vectors":
        return vector_similarity(_sum_vectors(documents, work_dir))
    chosen = documents.first(per_skill)
    words = frequent_words((text for texts, _ in documents.texts(chosen) for text in texts), max_characters)
    index = WordIndex(words)
    counts = sparse.csr_matrix((documents.members.shape[1], len(words)))
    for texts, members in documents.texts(chosen):
        counts = counts + word_counts(texts, members, index, len(words), max_characters)
    return word_similarity(counts, "bhattacharyya" if measure == "bhattacharyya" else "js")


def _sum_vectors(documents: SkillDocuments, work_dir: str | None) -> NDArray[np.float64]:
    """Sums of the documents' unit vectors by skill, `(k, d)`."""
    name = documents.pool.folder.name
    vectors = find_vectors(documents.pool.folder, work_dir)
    if not vectors:
        raise ManifestError(f"{name}: the build's stages, which have the vectors, are gone; use --from words")
    order = np.argsort(documents.keys, kind="stable")
    inside, held, total = documents.keys[order], 0, np.zeros(())
    for keys, rows in read_vectors(vectors, inside):
        at = order[np.searchsorted(inside, keys)]
        total = total + documents.members[at].T @ rows
        held += len(keys)
    if held != len(inside):
        raise ManifestError(
            f"{name}: the stages hold vectors of {held} of its {len(inside)} documents, so they are not those that it "
            "was built with; use --from words, or build the pool again"
        )
    return np.asarray(total, dtype=np.float64)


def from_influence(skills: tuple[Skill, ...], influence: Influence, args: argparse.Namespace) -> BuiltGraph:
    """Prerequisites from a learned influence."""
    weights = influence_weights(influence, [skill.id for skill in skills], relative=_measure(args) == "relative")
    return prerequisite_graph(
        skills, weights, least=args.least, top=args.top, on_cycle=args.on_cycle if args.on_cycle else "drop"
    )


def from_pool(args: argparse.Namespace, progress: Progress) -> BuiltGraph:
    """Similar skills by the documents of a configuration's pool.

    Raises:
        PrereqError: No finished pool, one of another graph, or one without what is asked for.
    """
    config = load_config(args.config, args.set)
    graph, pool = read_graph(config.graph), Pool(config.pool_dir)
    if pool.skills != graph.ids:
        raise ConfigError(
            f"{config.pool_dir}: was built for {len(pool.skills)} skills that are not the {len(graph)} of the "
            f"configuration's graph; run `prereq build {args.config}` again in a fresh pool_dir"
        )
    documents = SkillDocuments.of(pool)
    without = [pool.skills[n] for n in np.flatnonzero(np.asarray(documents.members.sum(axis=0)).ravel() == 0)]
    if without:
        names, more = ", ".join(printable(name) for name in without[:_SHOWN]), len(without) - _SHOWN
        progress.line(f"no documents, so no edge: {names}{f' and {more} more' if more > 0 else ''}")
    weights = weigh_documents(
        documents,
        args.basis,
        _measure(args),
        per_skill=args.documents or _DOCUMENTS,
        max_characters=config.embedding.max_characters,
        work_dir=config.work_dir,
    )
    return similarity_graph(graph.skills, weights, least=args.least, top=args.top)


def _measure(args: argparse.Namespace) -> str:
    known = MEASURES.get(args.basis, MEASURES["influence"])
    if args.measure is not None and args.measure not in known:
        raise ConfigError(f"graph build: --measure {args.measure}: --from {args.basis} takes {' or '.join(known)}")
    return args.measure or known[0]


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is read."""
    by_influence = args.basis.lower().endswith(".parquet")
    if not by_influence and args.basis not in MEASURES:
        raise ConfigError(
            f"graph build: --from {args.basis}: expected cooccurrence, words, vectors, or the Parquet file of an "
            "influence (prereq graph learn)"
        )
    if args.basis == "influence":
        raise ConfigError(
            "graph build: --from takes the Parquet file of the influence itself, as `graph learn` wrote it"
        )
    _measure(args)
    for name, value, goes in (
        ("--on-cycle", args.on_cycle, by_influence),
        ("--documents", args.documents, args.basis == "words"),
    ):
        if value is not None and not goes:
            raise ConfigError(f"graph build: {name} does not go with --from {args.basis}")
    if args.documents is not None and args.documents < 1:
        raise ConfigError(f"graph build: --documents is {args.documents}, expected 1 or more")
    check_out(args.out, (".json", ".yaml", ".yml", ".parquet", *((".csv",) if by_influence else ())))


def told(built: BuiltGraph, out: str) -> str:
    """What was built, in a few lines."""
    graph, linked = built.graph, {end for edge in built.graph.edges for end in (edge.prerequisite, edge.target)}
    lines = [
        f"{out}: {graph.kind} graph of {len(graph)} skills, {len(graph.edges)} edges of {built.pairs} pairs above the "
        f"least; {len(graph) - len(linked)} skills without an edge"
    ]
    if built.dropped:
        lines.append(f"{len(built.dropped)} edges would have closed a cycle with stronger ones and were dropped:")
        lines += [f"  {edge.weight:8.4g}  {edge}" for edge in built.dropped[:_SHOWN]]
    lines.append("strongest:")
    arrow = "->" if graph.kind == "prerequisite" else "--"
    lines += [f"  {edge.weight:8.4g}  {edge.prerequisite} {arrow} {edge.target}" for edge in graph.edges[:_SHOWN]]
    return "\n".join(printable(line) for line in lines)


def main_graph_build(args: argparse.Namespace) -> int:
    """The verb."""
    _check(args)
    if args.basis.lower().endswith(".parquet"):
        influence = load_influence(args.basis)
        built = from_influence(open_graph(args.config, args.set).skills, influence, args)
    elif args.dry_run:
        pool = Pool(load_config(args.config, args.set).pool_dir)
        print(f"would read {pool.manifest['documents']:,} documents of {pool.folder.name} and write {args.out}")
        return 0
    else:
        built = from_pool(args, Progress())
    if args.dry_run:
        print(f"would write {args.out}: {len(built.graph.edges)} edges, {len(built.dropped)} dropped for cycles")
        return 0
    _write(built.graph, args)
    print(json.dumps(_facts(built, args.out)) if args.json else told(built, args.out))
    return 0


def _write(graph: SkillGraph, args: argparse.Namespace) -> None:
    """The graph, or with .parquet the influence that a pool of this graph would have under the configuration."""
    suffix = Path(args.out).suffix.lower()
    if suffix != ".parquet":
        (save_edges if suffix == ".csv" else save_graph)(graph, args.out)
        return
    alone = is_graph_file(args.config)
    scale = InfluenceConfig() if alone else load_config(args.config, args.set).mixer.influence
    influence = influence_from_graph(graph, diagonal=scale.diagonal, edge=scale.edge, decay=scale.decay)
    save_influence(influence, args.out)


def _facts(built: BuiltGraph, out: str) -> dict[str, Any]:
    graph = built.graph
    dropped = [{"prerequisite": e.prerequisite, "target": e.target, "weight": e.weight} for e in built.dropped]
    return {
        "path": out,
        "kind": graph.kind,
        "skills": len(graph),
        "pairs": built.pairs,
        "edges": len(graph.edges),
        "dropped": dropped,
        "digest": graph.digest(),
    }
