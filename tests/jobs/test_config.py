"""The configuration: closed, typed, with an identity of its own."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from prereq.graph.errors import ConfigError, GraphError
from prereq.graph.skill import Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.config import GraphConfig, InfluenceConfig, load_config, make_config, read_graph, read_influence
from prereq.jobs.config_file import shipped_folder

BASE: dict[str, Any] = {
    "run_dir": "runs/a",
    "pool_dir": "pools/a",
    "rounds": 3,
    "sources": [{"name": "web", "paths": ["x.jsonl"]}],
    "graph": {"builtin": "python"},
}
GRAPH = SkillGraph("prerequisite", [Skill(id="a"), Skill(id="b")], [])


def error_of(**changes: Any) -> str:
    """What a configuration with these changes is refused for."""
    with pytest.raises(ConfigError) as caught:
        make_config({**BASE, **changes}, "c.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runds": 3}, "c.yaml: runds: unknown key; did you mean rounds?"),
        ({"dedup": {"treshold": 0.5}}, "c.yaml: dedup.treshold: unknown key; did you mean threshold?"),
        ({"sources": [{"name": "a", "pathz": []}]}, "c.yaml: sources.0.pathz: unknown key; did you mean paths?"),
        ({"mixer": {"influence": {"edges": 1.0}}}, "c.yaml: mixer.influence.edges: unknown key; did you mean edge?"),
        ({"ray": {"cpus": 3}}, "c.yaml: ray.cpus: unknown key; did you mean num_cpus?"),
        ({"pool": {"qqq": 3}}, "c.yaml: pool.qqq: unknown key; known: seed"),
        ({"mixer": {"parameters": {"learning_rat": 1.0}}}, "c.yaml: mixer.parameters.learning_rat: "),
        ({"mixer": {"name": "skillit"}}, "c.yaml: mixer.name is 'skillit'"),
        ({"rounds": "six"}, "c.yaml: rounds: should be a valid integer, got 'six'"),
        ({"rounds": "6"}, "c.yaml: rounds: should be a valid integer, got '6'"),
        ({"rounds": 3.5}, "c.yaml: rounds: should be a valid integer"),
        ({"rounds": True}, "c.yaml: rounds: should be a valid integer, got True"),
        ({"dedup": {"threshold": "high"}}, "c.yaml: dedup.threshold: should be a valid number, got 'high'"),
        ({"layout": {"arms": "topic"}}, "c.yaml: layout.arms: should be 'cluster', 'skill' or 'source', got 'topic'"),
        ({"holdout": 3}, "c.yaml: holdout: should be an object, got 3"),
        ({"holdout": {"max_share": 2.0}}, "c.yaml: holdout.max_share: must be above 0 and below 1, got 2.0"),
        ({"run_dir": None}, "c.yaml: run_dir: should be a valid string, got None"),
        ({"tokens": 9}, "c.yaml: rounds, tokens: set exactly one of them"),
        ({"rounds": None}, "c.yaml: rounds, tokens: set exactly one of them"),
        ({"graph": {}}, "c.yaml: graph: set exactly one of path, edges, builtin; got none"),
        (
            {"graph": {"path": "a", "builtin": "b"}},
            "c.yaml: graph: set exactly one of path, edges, builtin; got",
        ),
        ({"graph": {"path": "a", "skills": "b"}}, "c.yaml: graph.skills: goes with graph.edges"),
        ({"graph": {"path": "a", "extra_skills": ["b"]}}, "c.yaml: graph.extra_skills: goes with graph.edges"),
        ({"sources": []}, "c.yaml: sources: is empty"),
        ({"dedup": {"semantic": 1.1}}, "c.yaml: dedup.semantic must be above 0 and at most 1"),
        ({"dedup": {"semantic": 0.9, "enabled": False}}, "c.yaml: dedup.semantic must be above 0"),
        ({"dedup": {"semantic": 0.9}, "layout": {"arms": "source"}}, "c.yaml: dedup.semantic: needs layout.arms: "),
        ({"sources": BASE["sources"] * 2}, "c.yaml: sources: two sources are named 'web'"),
        ({"tokenizer": "words"}, "c.yaml: tokenizer 'words' is unknown"),
        ({"seed": -1}, "c.yaml: seed: must be a whole number of 0 or more, got -1"),
        ({"pool": {"seed": -1}}, "c.yaml: pool.seed: must be 0 or more"),
        ({"global_batch": 0}, "c.yaml: global_batch: must be a whole number of 1 or more, got 0"),
        ({"feedback_timeout_s": float("inf")}, "c.yaml: holds a number that is not finite"),
        ({"run_dir": "\ud800"}, "c.yaml: holds half a character"),
    ],
)
def test_what_is_wrong_is_named_with_its_dotted_path(changes: dict[str, Any], message: str) -> None:
    assert error_of(**changes).startswith(message)


def test_every_missing_or_wrong_key_gets_a_line() -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({"rounds": 1, "colour": "red", "sources": [{}]}, "c.yaml")
    assert str(caught.value).splitlines()[1:] == [
        "  run_dir: is required and missing",
        "  pool_dir: is required and missing",
        "  sources.0.name: is required and missing",
        "  graph: is required and missing",
        *[line for line in str(caught.value).splitlines() if line.startswith("  colour: unknown key")],
    ]


def test_an_integer_is_a_number_and_a_list_is_a_tuple() -> None:
    config = make_config({**BASE, "dedup": {"threshold": 1}, "tagging": {"methods": ["patterns"]}}, "c.yaml")
    assert config.dedup.threshold == 1.0
    assert config.tagging.methods == ("patterns",)


def test_the_resolved_configuration_makes_the_same_one_again(tmp_path: Path) -> None:
    config = make_config(BASE, "c.yaml")
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml.safe_dump(config.resolved()))
    assert load_config(str(path)) == config
    assert json.loads(json.dumps(config.resolved())) == config.resolved()


def test_passwords_in_urls_are_used_and_not_written_down() -> None:
    def made(*paths: str) -> Any:
        return make_config({**BASE, "sources": [{"name": "web", "paths": list(paths)}]}, "c.yaml")

    config = made("s3://me:word@bucket/a@b/*.gz?region=x", "plain@here/*.jsonl")
    assert config.sources[0].paths[0] == "s3://me:word@bucket/a@b/*.gz?region=x"
    assert config.resolved()["sources"][0]["paths"] == ["s3://bucket/a@b/*.gz?region=x", "plain@here/*.jsonl"]
    changed = made("s3://you:other@bucket/a@b/*.gz?region=x", "plain@here/*.jsonl")
    assert changed.pool_settings(GRAPH) == config.pool_settings(GRAPH), "another password is not another pool"


def test_own_vectors_count_by_content_and_keep_passwords_to_themselves(tmp_path: Path) -> None:
    def made(path: Path | str, **more: Any) -> Any:
        return make_config(
            {**BASE, "embedding": {"method": "column", "vectors": {"paths": [str(path)]}}, **more}, "c.yaml"
        )

    for name in ("a", "b"):
        pq.write_table(pa.table({"id": ["x"], "vector": [[1.0, 2.0]]}), tmp_path / f"{name}.parquet")
    first, moved = (made(tmp_path / f"{name}.parquet").pool_settings(GRAPH) for name in ("a", "b"))
    assert first == moved
    pq.write_table(pa.table({"id": ["x"], "vector": [[1.0, 3.0]]}), tmp_path / "b.parquet")
    assert made(tmp_path / "b.parquet").pool_settings(GRAPH) != first
    assert made("s3://me:word@b/v.parquet").resolved()["embedding"]["vectors"]["paths"] == ["s3://b/v.parquet"]
    with pytest.raises(ConfigError, match="descriptions needs an embedding of words"):
        made("v.parquet", tagging={"methods": ["patterns", "descriptions"]})
    for wrong in ({"method": "column"}, {"vectors": {"paths": ["v.parquet"]}}):
        with pytest.raises(ConfigError, match=r"goes with embedding\.method: column"):
            make_config({**BASE, "embedding": wrong}, "c.yaml")


def test_sampler_keys_are_those_of_the_sampler() -> None:
    config = make_config({**BASE, "rounds": None, "tokens": 100, "global_batch": 16, "policy": "reuse"}, "c.yaml")
    sampler = config.sampler()
    assert (sampler.tokens, sampler.rounds, sampler.global_batch, sampler.policy) == (100, None, 16, "reuse")


def test_keys_that_came_later_leave_older_pools_as_they_are() -> None:
    settings = make_config(BASE, "c.yaml").pool_settings(GRAPH)
    assert "normalisation" not in settings["ingest"]
    assert "decontaminate" not in settings
    assert "semantic" not in settings["dedup"]
    assert not {"vectors", "model_path", "batch_size", "max_tokens"} & settings["embedding"].keys()
    for same in ({"ingest": {"normalisation": "none"}}, {"decontaminate": {"ngram": 9}}):
        assert make_config({**BASE, **same}, "c.yaml").pool_settings(GRAPH) == settings


def test_a_pools_settings_leave_out_what_changes_no_byte() -> None:
    base = make_config(BASE, "c.yaml").pool_settings(GRAPH)
    for same in ({"run_dir": "b"}, {"pool_dir": "b"}, {"ray": {"num_cpus": 0}}, {"seed": 4}, {"rounds": 9}):
        assert make_config({**BASE, **same}, "c.yaml").pool_settings(GRAPH) == base
    for other in (
        {"pool": {"seed": 1}},
        {"dedup": {"near": False}},
        {"layout": {"part_mib": 1}},
        {"ingest": {"part_rows": 7}},
        {"ingest": {"normalisation": "NFC"}},
        {"decontaminate": {"paths": ["x.jsonl"]}},
        {"dedup": {"semantic": 0.9}},
    ):
        assert make_config({**BASE, **other}, "c.yaml").pool_settings(GRAPH) != base
    larger = SkillGraph("prerequisite", [Skill(id="a"), Skill(id="b"), Skill(id="c")], [])
    assert make_config(BASE, "c.yaml").pool_settings(larger) != base


def test_the_digest_of_keys_moves_with_those_keys_only() -> None:
    first, second = make_config(BASE, "c.yaml"), make_config({**BASE, "seed": 1}, "c.yaml")
    assert first.config_digest(["dedup", "rounds"]) == second.config_digest(["rounds", "dedup"])
    assert first.config_digest(["seed"]) != second.config_digest(["seed"])


def test_the_score_that_chooses_survivors_is_a_metadata_column_of_a_source() -> None:
    scored = {**BASE, "dedup": {"keep": "score", "score": "quality"}}
    with pytest.raises(ConfigError, match=r"dedup.score: no source has a metadata column 'quality'"):
        make_config(scored, "c.yaml")
    source = {**BASE["sources"][0], "metadata": ["meta.quality"]}
    assert make_config({**scored, "sources": [source]}, "c.yaml").dedup.score == "quality"


def test_configurations_cannot_be_changed() -> None:
    config = make_config(BASE, "c.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


def test_graphs_come_from_files_edges_or_the_package(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("prerequisite,target\na,b\n")
    edges = GraphConfig(edges=str(tmp_path / "e.csv"), extra_skills=("c",))
    assert read_graph(edges).ids == ("a", "b", "c")
    (tmp_path / "g.json").write_text(json.dumps(read_graph(edges).to_dict()))
    assert read_graph(GraphConfig(path=str(tmp_path / "g.json"))) == read_graph(edges)
    with pytest.raises(ConfigError, match=r"graph.builtin: there is no graph 'rust'"):
        read_graph(GraphConfig(builtin="rust"))
    (tmp_path / "e.csv").write_text("prerequisite,target\na,b\nb,a\n")
    with pytest.raises(GraphError, match="a -> b -> a"):
        read_graph(GraphConfig(edges=str(tmp_path / "e.csv")))
    assert len(read_graph(GraphConfig(edges=str(tmp_path / "e.csv"), on_cycle="condense"))) == 1


def test_influence_comes_from_the_graph() -> None:
    influence = read_influence(InfluenceConfig(diagonal=2.0), GRAPH)
    assert influence.matrix.tolist() == [[2.0, 0.0], [0.0, 2.0]]


@pytest.mark.parametrize("path", sorted(shipped_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_sound(path: Path) -> None:
    config = load_config(path.stem)
    assert config.run_dir
    assert config.sources
