"""Rows on what a stage adds to its library: documents per CPU second of ours over those of the library in a bare loop.

Ours is the whole task of a stage on one core: reading a Parquet part, splitting texts, the model, checks, writing its
part. The library gets the texts ready in a list and its result is thrown away. Both apply a model of the same size,
fitted on the same documents; runs alternate, medians of all. Nothing here starts Ray.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from corpus_rows import Context, Found, Row

from prereq.graph.skill import Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.config import GraphConfig, read_graph
from prereq.jobs.executor import InProcessExecutor, call_pinned
from prereq.jobs.progress import Progress
from prereq.jobs.stages.embed import embed, embed_part
from prereq.jobs.stages.ingest import ingest
from prereq.jobs.stages.runner import Bench, StageResult
from prereq.jobs.stages.tag import find_part, tag, tag_part
from prereq.selector.corpus.documents import IngestConfig, SourceConfig
from prereq.selector.corpus.embedding import EmbeddingConfig
from prereq.selector.corpus.tagging import TaggingConfig

DOCUMENTS = 5000  # timed, one part


def prepare(context: Context) -> tuple[Bench, StageResult, list[str]]:
    """A folder of stages with two ingested parts, and the texts of the first one on single lines."""
    bench = Bench(
        stages=context.scratch / "stages", executor=InProcessExecutor(), progress=Progress(quiet=True), seed=0
    )
    source = SourceConfig(
        name="corpus", paths=(str(context.corpus / "parquet"),), skills_fields=("topic",), max_documents=2 * DOCUMENTS
    )
    documents = ingest(bench, [source], IngestConfig(part_rows=DOCUMENTS))
    first = documents.matching("part-")[0]
    texts = pq.read_table(first.path, columns=["text"])["text"].to_pylist()
    return bench, documents, [text.replace("\n", " ") for text in texts]


def cpu_seconds(function: Callable[[], object]) -> float:
    """CPU seconds of one call on one core."""
    start = time.process_time()
    call_pinned(function)
    return time.process_time() - start


def ratio(context: Context, ours: Callable[[], object], library: Callable[[], object]) -> tuple[float, dict[str, Any]]:
    """Speed of ours over the library's, and both in documents per CPU second; one unmeasured call of each first."""
    ours()
    library()
    seconds: dict[str, list[float]] = {"ours": [], "library": []}
    for _ in range(context.repeats(5, 9)):
        seconds["ours"].append(cpu_seconds(ours))
        seconds["library"].append(cpu_seconds(library))
    speed = {name: DOCUMENTS / statistics.median(found) for name, found in seconds.items()}
    return speed["ours"] / speed["library"], {"documents_per_cpu_second": speed, "cpu_seconds": seconds}


def embed_row(context: Context) -> Found:
    """The stage `embed` against the library: fastText's get_sentence_vector, or scikit-learn's transform."""
    bench, documents, texts = prepare(context)
    config = EmbeddingConfig()
    embed(bench, documents, config)
    part = documents.matching("part-")[0]
    model = [
        str(path) for path in sorted((bench.stages / "embedding" / "fit").iterdir()) if path.name != "receipt.json"
    ]
    out = context.scratch / "embedded"
    out.mkdir()
    library = _vectors(context, texts, config)
    value, details = ratio(context, lambda: embed_part(str(out), part.path, model, config), library)
    return {"embed_ratio": value}, details | {"method": config.method, "dim": config.dim}


def _vectors(context: Context, texts: Sequence[str], config: EmbeddingConfig) -> Callable[[], object]:
    if config.method == "tfidf":
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline

        vectorizer = TfidfVectorizer(
            sublinear_tf=True,
            min_df=config.min_count,
            max_features=config.max_words * (2 if config.pairs else 1),
            ngram_range=(1, 2 if config.pairs else 1),
        )
        fitted = make_pipeline(vectorizer, TruncatedSVD(config.dim, random_state=0)).fit(texts[:2000])
        return lambda: fitted.transform(texts)
    import fasttext

    lines = context.scratch / "lines.txt"
    lines.write_text("\n".join(texts[:2000]) + "\n")
    trained = fasttext.train_unsupervised(
        str(lines),
        model="cbow",
        dim=config.dim,
        minn=0,
        maxn=0,
        epoch=1,
        minCount=config.min_count,
        thread=1,
        verbose=0,
    )
    return lambda: [trained.get_sentence_vector(text) for text in texts]


def tag_row(context: Context) -> Found:
    """The classifier's share of the stage `tag` against its library, six labels of every document from both.

    `bayes` (the default) against scikit-learn's naive Bayes over its TF-IDF of words, signs and pairs; `fasttext`
    against fastText's predict; the value is the smaller ratio. The documents are labelled with their topics; no term
    is cut out of them, as for a graph without terms. What finding terms costs (the stage `patterns`) is measured too.
    """
    bench, documents, texts = prepare(context)
    part = documents.matching("part-")[0]
    topics = [labels[0] for labels in pq.read_table(part.path, columns=["labels"])["labels"].to_pylist()]
    graph = SkillGraph("prerequisite", [Skill(id=topic) for topic in sorted(set(topics))], [])
    out, details, ratios = context.scratch / "tagged", {"skills": len(graph.skills)}, {}
    out.mkdir()
    for classifier, library in (("bayes", _bayes_predictions), ("fasttext", _fasttext_predictions)):
        config = TaggingConfig(
            methods=("labels", "classifier"),
            classifier_for="all",
            classifier_threshold=0.0,
            unknown_labels="ignore",
            classifier=classifier,
        )
        stages = replace(bench, stages=bench.stages / classifier)
        tag(stages, documents, graph, config)
        weak = str(sorted((stages.stages / "patterns").glob("*/part-*.parquet"))[0])
        ours = partial(tag_part, str(out), part.path, weak, str(stages.stages / "tagger/tagger"), graph.skills, config)
        ratios[classifier], details[classifier] = ratio(context, ours, library(context, texts, topics, config))
    python = read_graph(GraphConfig(builtin="python"))
    patterns = TaggingConfig(methods=("patterns",))
    seconds = cpu_seconds(lambda: find_part(str(out), part.path, python.skills, python.merged, patterns))
    details |= {"ratios": ratios, "patterns_documents_per_cpu_second": DOCUMENTS / seconds}
    return {"tag_ratio": min(ratios.values())}, details


def _fasttext_predictions(
    context: Context, texts: Sequence[str], topics: Sequence[str], config: TaggingConfig
) -> Callable[[], object]:
    import fasttext

    lines = context.scratch / "labelled.txt"
    lines.write_text("\n".join(f"__label__{topic} {text}" for topic, text in zip(topics, texts, strict=True)) + "\n")
    trained = fasttext.train_supervised(
        str(lines), dim=config.classifier_dim, epoch=2, minCount=2, loss="ova", thread=1, verbose=0
    )
    # the method under `predict`, which fails on a single string with numpy 2
    ready = [text[: config.classifier_characters] + "\n" for text in texts]
    return lambda: [trained.f.predict(text, config.max_skills, 0.0, "strict") for text in ready]


def _bayes_predictions(
    context: Context, texts: Sequence[str], topics: Sequence[str], config: TaggingConfig
) -> Callable[[], object]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import ComplementNB

    vectorizer = TfidfVectorizer(
        sublinear_tf=True, min_df=2, max_features=400_000, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]"
    )
    ready = [text[: config.classifier_characters] for text in texts]
    learner = ComplementNB().fit(vectorizer.fit_transform(ready), topics)

    def predict() -> object:
        chances = learner.predict_log_proba(vectorizer.transform(ready))
        return np.argpartition(-chances, config.max_skills, axis=1)[:, : config.max_skills]

    return predict


ROWS: dict[str, Row] = {
    "embed": Row(run=embed_row, needs=("corpus",)),
    "tag": Row(run=tag_row, needs=("corpus",)),
}
