"""The tagging stages on small corpora: what is written, resumed, refused, and that part borders change nothing."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError, TableError
from prereq.graph.skill import Edge, Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.executor import InProcessExecutor, RayConfig, make_executor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.embed import embed
from prereq.jobs.stages.runner import Bench, StageResult, Task, run_stage
from prereq.jobs.stages.tag import TAGS_SCHEMA, count_skills, tag
from prereq.selector.corpus.embedding import EmbeddingConfig
from prereq.selector.corpus.tagging import TaggingConfig

Row = tuple[str, str, list[str]]  # id, text, labels

TOPICS = {
    "baking": ("sourdough", "flour oven dough bake crust yeast"),
    "sailing": ("spinnaker", "sail harbour anchor tide keel mast"),
    "music": ("fugue", "violin chord melody tempo choir bass"),
}
GRAPH = SkillGraph(
    "prerequisite",
    [
        *(Skill(id=name, aliases=(term,)) for name, (term, _) in TOPICS.items()),
        Skill(id="alchemy", patterns=(r"^Au:",)),
    ],
    [Edge(prerequisite="baking", target="alchemy")],
)


def corpus(number: int = 240) -> list[Row]:
    """Documents of three topics; every sixth lacks its topic's term and can only be told by its company."""
    rng = random.Random(2)
    rows: list[Row] = []
    for n in range(number):
        name = rng.choice(sorted(TOPICS))
        term, company = TOPICS[name]
        words = rng.choices(company.split(), k=8) + rng.choices(["the", "of", "and", "with"], k=8)
        rng.shuffle(words)
        rows.append((f"{name}-{n:03d}", " ".join(words + [term] * (n % 6 != 0)), []))
    return rows


def write_documents(folder: str, rows: list[Row]) -> dict[str, int]:
    """A stand-in for the stages before this one."""
    table = pa.table(
        {
            "id": pa.array([row[0] for row in rows], pa.string()),
            "text": pa.array([row[1] for row in rows], pa.large_string()),
            "place": pa.array([f"made.jsonl:{n}" for n, _ in enumerate(rows, 1)], pa.string()),
            "labels": pa.array([row[2] for row in rows], pa.list_(pa.string())),
        }
    )
    pq.write_table(table, Path(folder) / "part-00000.parquet", compression="zstd", row_group_size=37)
    return {"documents": len(rows)}


class Corpus:
    """Documents in parts of `part_rows`, and the bench to tag them on."""

    def __init__(
        self, folder: Path, rows: list[Row], part_rows: int, seed: int = 0, ray: RayConfig | None = None
    ) -> None:
        executor = make_executor(ray) if ray else InProcessExecutor()
        self.bench = Bench(stages=folder, executor=executor, progress=Progress(quiet=True), seed=seed)
        starts = range(0, len(rows), part_rows)
        tasks = [
            Task(f"{n:05d}", (rows[s : s + part_rows],), (str(rows[s : s + part_rows]),)) for n, s in enumerate(starts)
        ]
        local = Bench(stages=folder, executor=InProcessExecutor(), progress=Progress(quiet=True), seed=seed)
        self.documents = run_stage(local, "dedup", write_documents, tasks, {})

    def tag(self, config: TaggingConfig, graph: SkillGraph = GRAPH) -> StageResult:
        with self.bench.executor:
            return tag(self.bench, self.documents, graph, config)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Corpus]:
    numbers = iter(range(100))
    return lambda rows, part_rows=1000, **more: Corpus(tmp_path / str(next(numbers)), rows, part_rows, **more)


def read(result: StageResult) -> pa.Table:
    return pa.concat_tables([pq.read_table(file.path) for file in result.matching("part-")])


def skills(result: StageResult) -> dict[str, list[str]]:
    return {row["id"]: row["skills"] for row in read(result).to_pylist()}


def test_rows_follow_the_documents_and_have_the_stated_columns(make: Callable[..., Corpus]) -> None:
    made = make(corpus(50), 20)
    result = made.tag(TaggingConfig(methods=("patterns",)))
    assert [file.rows for file in result.files] == [20, 20, 10]
    assert result.tasks == ("00000", "00001", "00002")
    table = read(result)
    assert table.schema == TAGS_SCHEMA
    assert table["id"].to_pylist() == [row[0] for row in corpus(50)]


def test_classifier_tags_a_document_near_its_siblings(make: Callable[..., Corpus]) -> None:
    made = make(corpus(), 100)
    without = skills(made.tag(TaggingConfig(methods=("patterns",))))
    untagged = [name for name, found in without.items() if not found]
    assert len(untagged) == 40
    result = made.tag(TaggingConfig(classifier_precision=0.8))
    tagged = skills(result)
    assert all(tagged[name] == [name.split("-")[0]] for name in tagged)
    assert result.counts == {"tagged": 240, "by classifier alone": 40, "untagged": 0}
    table = {row["id"]: row["scores"][0] for row in read(result).to_pylist()}
    found = [score for name, score in table.items() if name not in untagged]
    assert max(table[name] for name in untagged) < min(found) + 0.3  # a guess weighs no more than a find


def test_bayes_tags_a_document_near_its_siblings(make: Callable[..., Corpus]) -> None:
    config = TaggingConfig(classifier="bayes", classifier_precision=0.8)
    result = make(corpus(), 100).tag(config)
    assert all(found == [name.split("-")[0]] for name, found in skills(result).items())
    assert result.counts == {"tagged": 240, "by classifier alone": 40, "untagged": 0}
    assert read(make(corpus(), 64).tag(config)) == read(result)
    chances = {row["id"]: row["chances"] for row in read(result).to_pylist()}
    assert all((chances[name] == [None]) == (int(name.split("-")[1]) % 6 != 0) for name in chances)
    assert all(found == [None] or 0.8 < found[0] <= 1 for found in chances.values())


def test_a_labelled_sample_is_read_and_its_change_fits_the_tagger_again(
    make: Callable[..., Corpus], tmp_path: Path
) -> None:
    sample = tmp_path / "sample.jsonl"
    lines = [json.dumps({"text": text, "skills": [name.split("-")[0]]}) for name, text, _ in corpus(30)]
    sample.write_text("\n".join(lines))
    config = TaggingConfig(classifier="bayes", labelled=str(sample))
    made = make(corpus(), 100)
    made.tag(config)
    folder = made.bench.stages / "tagger" / "tagger"
    assert json.loads((folder / "tagger.json").read_bytes())["classifier"]["documents"] == 30
    assert made.tag(config).skipped == 3
    sample.write_text("\n".join(lines[:20]))
    made.tag(config)
    assert json.loads((folder / "tagger.json").read_bytes())["classifier"]["documents"] == 20
    sample.write_text('{"text": "tide", "skills": ["sealing"]}')
    with pytest.raises(TableError, match=r"sample.jsonl line 1: the graph has no skill 'sealing'; did you mean"):
        made.tag(config)
    with pytest.raises(ConfigError, match=r"tagging\.labelled: .* cannot be read"):
        made.tag(TaggingConfig(labelled=str(tmp_path / "none.jsonl")))


def test_descriptions_tag_what_nothing_else_reaches(make: Callable[..., Corpus]) -> None:
    """No term, no label: the skills' own words lie near the documents; any part borders give the same tags."""
    graph = SkillGraph("prerequisite", [Skill(id=name, description=words) for name, (_, words) in TOPICS.items()], [])
    config = TaggingConfig(methods=("descriptions",), descriptions_threshold=0.1, max_skills=1)
    embedding = EmbeddingConfig(method="tfidf", dim=8, min_count=1)
    seen = set()
    for part_rows in (50, 1000):
        made = make(corpus(), part_rows)
        with made.bench.executor:
            vectors = embed(made.bench, made.documents, embedding)
            result = tag(made.bench, made.documents, graph, config, (vectors, embedding))
        tagged = skills(result)
        assert sum(found == [name.split("-")[0]] for name, found in tagged.items()) > 225
        assert result.counts["by description alone"] == result.counts["tagged"]
        assert result.counts["by classifier alone"] == 0
        seen.add(str(read(result).to_pylist()))
    assert len(seen) == 1
    with pytest.raises(ConfigError, match="descriptions needs an embedding of words"):
        made.tag(config, graph)


def test_descriptions_only_fill_gaps(make: Callable[..., Corpus]) -> None:
    made, embedding = make(corpus(), 100), EmbeddingConfig(method="tfidf", dim=8, min_count=1)
    graph = SkillGraph(
        "prerequisite", [Skill(id=name, name=words, aliases=(term,)) for name, (term, words) in TOPICS.items()], []
    )
    with made.bench.executor:
        vectors = embed(made.bench, made.documents, embedding)
        config = TaggingConfig(methods=("patterns", "descriptions"), classifier_precision=0.8)
        result = tag(made.bench, made.documents, graph, config, (vectors, embedding))
    assert all(found == [name.split("-")[0]] for name, found in skills(result).items())
    assert result.counts == {"tagged": 240, "by classifier alone": 0, "by description alone": 40, "untagged": 0}


def test_classifier_for_all_adds_to_found_skills(make: Callable[..., Corpus]) -> None:
    rows = [*corpus(), ("both", "violin chord melody tempo choir bass sourdough", [])]
    assert skills(make(rows).tag(TaggingConfig()))["both"] == ["baking"]
    assert skills(make(rows).tag(TaggingConfig(classifier_for="all")))["both"] == ["baking", "music"]


def test_labels_come_first_and_terms_add_to_them(make: Callable[..., Corpus]) -> None:
    rows = [("a", "a spinnaker, a fugue\nAu: 3", ["baking"]), ("b", "", ["music"])]
    assert skills(make(rows).tag(TaggingConfig(max_skills=2)))["a"][:1] == ["baking"]
    assert skills(make(rows).tag(TaggingConfig()))["a"] == ["baking", "sailing", "music", "alchemy"]
    only = make(rows).tag(TaggingConfig(methods=("labels",)))
    assert skills(only) == {"a": ["baking"], "b": ["music"]}
    assert count_skills(only, GRAPH) == {"baking": 1, "sailing": 0, "music": 1, "alchemy": 0}


def test_skills_without_documents_are_counted(make: Callable[..., Corpus]) -> None:
    made = make(corpus(30))
    made.tag(TaggingConfig(methods=("patterns",)))
    manifest = json.loads((made.bench.stages / "tagger" / "manifest.json").read_bytes())
    assert manifest["counts"] == {"skills": 4, "skills without documents": 1}
    settings = json.loads((made.bench.stages / "tagger" / "tagger" / "tagger.json").read_bytes())
    assert settings["frequency"]["alchemy"] == 0
    assert settings["documents"] == 30


def test_same_tags_and_models_for_any_part_borders(make: Callable[..., Corpus]) -> None:
    seen = set()
    for part_rows in (7, 64, 1000):
        made = make(corpus(), part_rows)
        rows = str(read(made.tag(TaggingConfig())).to_pylist())
        folder = made.bench.stages / "tagger" / "tagger"
        model = tuple((p.name, p.read_bytes()) for p in sorted(folder.iterdir()) if p.name != "receipt.json")
        seen.add((rows, model))
    assert len(seen) == 1


def test_seed_changes_the_model_only(make: Callable[..., Corpus]) -> None:
    first, second = make(corpus(), seed=0), make(corpus(), seed=1)
    assert skills(first.tag(TaggingConfig(classifier="fasttext"))) == skills(
        second.tag(TaggingConfig(classifier="fasttext"))
    )
    models = [(m.bench.stages / "tagger" / "tagger" / "inputs.npy").read_bytes() for m in (first, second)]
    assert models[0] != models[1]


@pytest.mark.ray
def test_same_bytes_on_ray(make: Callable[..., Corpus]) -> None:
    local = make(corpus(), 50).tag(TaggingConfig())
    remote = make(corpus(), 50, ray=RayConfig(num_cpus=2)).tag(TaggingConfig())
    assert [file.sha256 for file in local.files] == [file.sha256 for file in remote.files]
    assert local.digest == remote.digest


def test_a_second_run_skips_everything_and_a_lost_part_is_made_again(make: Callable[..., Corpus]) -> None:
    made = make(corpus(), 100)
    first = made.tag(TaggingConfig())
    assert made.tag(TaggingConfig()).skipped == 3
    shutil.rmtree(Path(first.files[1].path).parent)
    shutil.rmtree(made.bench.stages / "patterns")
    again = made.tag(TaggingConfig())
    assert again.skipped == 2
    assert again.digest == first.digest


def test_another_graph_or_configuration_makes_the_parts_again(make: Callable[..., Corpus]) -> None:
    made = make(corpus(60), 30)
    made.tag(TaggingConfig(methods=("patterns",)))
    renamed = SkillGraph("prerequisite", [Skill(id="baking", aliases=("yeast",))], [])
    assert made.tag(TaggingConfig(methods=("patterns",)), renamed).skipped == 0
    assert made.tag(TaggingConfig(methods=("patterns",), max_skills=1), renamed).skipped == 0


def test_edges_play_no_part(make: Callable[..., Corpus]) -> None:
    made = make(corpus(60), 30)
    made.tag(TaggingConfig(methods=("patterns",)))
    bare = SkillGraph("prerequisite", GRAPH.skills, [])
    assert made.tag(TaggingConfig(methods=("patterns",)), bare).skipped == 2


def test_labels_of_merged_skills_stand_for_the_merged_one(make: Callable[..., Corpus]) -> None:
    edges = [Edge(prerequisite="a", target="b"), Edge(prerequisite="b", target="a")]
    graph = SkillGraph("prerequisite", [Skill(id="a"), Skill(id="b")], edges, on_cycle="condense")
    assert skills(make([("x", "", ["b"])]).tag(TaggingConfig(), graph)) == {"x": ["a"]}


def test_an_unknown_label_stops_or_is_ignored(make: Callable[..., Corpus]) -> None:
    made = make([("x", "fugue", ["musik"])])
    with pytest.raises(TableError, match=r"document 'x' \(made.jsonl:1\).*'musik'.*did you mean 'music'"):
        made.tag(TaggingConfig())
    assert skills(made.tag(TaggingConfig(unknown_labels="ignore"))) == {"x": ["music"]}


@pytest.mark.parametrize("rows", [[], [("only", "a fugue", [])], [("empty", "", [])]])
def test_tiny_corpora_are_tagged(make: Callable[..., Corpus], rows: list[Row]) -> None:
    result = make(rows).tag(TaggingConfig())
    assert sum(file.rows for file in result.files) == len(rows)


def test_parts_that_do_not_fit_together_are_refused(make: Callable[..., Corpus], tmp_path: Path) -> None:
    from prereq.jobs.stages.tag import tag_part

    made = make(corpus(40), 20)
    made.tag(TaggingConfig(methods=("patterns",)))
    weak = made.bench.stages / "patterns" / "00001" / "part-00000.parquet"
    tagger = str(made.bench.stages / "tagger" / "tagger")
    args = (made.documents.files[0].path, str(weak), tagger, GRAPH.skills, TaggingConfig(methods=("patterns",)))
    with pytest.raises(TableError, match="rows are not those of"):
        tag_part(str(tmp_path), *args)


@pytest.mark.data
def test_exercism_labels_are_the_skills_that_the_data_states(make: Callable[..., Corpus], data_dir: Path) -> None:
    """All documents of six tracks by their own labels: nothing missing, nothing else, none unknown."""
    import gzip

    from prereq.graph.load import load_edges

    folder = data_dir / "exercism"
    graph = load_edges(folder / "edges.csv", folder / "skills.jsonl", on_unknown="add")
    rows = []
    with gzip.open(folder / "documents.jsonl.gz", "rt") as file:
        for line in file:
            entry = json.loads(line)
            labels = entry["labels"]
            rows.append((entry["id"], entry["text"], labels["taught"] + labels.get("practices", [])))
    tags = skills(make(rows, 2000).tag(TaggingConfig(methods=("labels",)), graph))
    assert {name: set(found) for name, found in tags.items()} == {row[0]: set(row[2]) for row in rows}
