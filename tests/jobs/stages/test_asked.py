"""Answers of an endpoint teach the classifier; the corpus itself says nothing."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError
from prereq.graph.skill import Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.executor import InProcessExecutor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.runner import Bench, Task, run_stage
from prereq.jobs.stages.tag import tag
from prereq.selector.corpus.endpoint import EndpointConfig
from prereq.selector.corpus.tagging import TaggingConfig

WORDS = {"baking": "flour oven dough", "sailing": "anchor tide keel", "music": "violin chord tempo"}
GRAPH = SkillGraph("prerequisite", [Skill(id=name) for name in WORDS], [])


class Handler(BaseHTTPRequestHandler):
    """Knows each skill by its words."""

    asked: list[str]

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        documents = body["messages"][1]["content"].split("Document ")[1:]
        type(self).asked += documents
        tags = {d.split(":")[0]: [n for n, words in WORDS.items() if words.split()[0] in d] for d in documents}
        answer = {"choices": [{"message": {"content": json.dumps(tags)}}], "usage": {"prompt_tokens": 9}}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def endpoint() -> Iterator[EndpointConfig]:
    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield EndpointConfig(url=f"http://127.0.0.1:{server.server_port}/v1", model="m", documents=90, price_in=1.0)
    server.shutdown()
    thread.join()
    server.server_close()


def write(folder: str, start: int, stop: int) -> dict[str, int]:
    names = [sorted(WORDS)[n % 3] for n in range(start, stop)]
    table = {
        "id": [f"{name}-{n}" for n, name in enumerate(names, start)],
        "text": pa.array([f"{WORDS[name]} and {n % 7}" for n, name in enumerate(names)], pa.large_string()),
        "place": ["here"] * len(names),
        "labels": pa.array([[] for _ in names], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(table), Path(folder) / "part-00000.parquet")
    return {}


@pytest.mark.parametrize("classifier", ["bayes", "fasttext"])
def test_answers_on_a_sample_are_distilled(tmp_path: Path, endpoint: EndpointConfig, classifier: Any) -> None:
    config = TaggingConfig(methods=("classifier",), classifier=classifier, endpoint=endpoint)
    seen = set()
    for borders in ((0, 300), (0, 70, 300)):
        bench = Bench(
            stages=tmp_path / str(len(borders)), executor=InProcessExecutor(), progress=Progress(quiet=True), seed=0
        )
        tasks = [Task(f"{n}", pair, (str(pair),)) for n, pair in enumerate(pairwise(borders))]
        documents = run_stage(bench, "dedup", write, tasks, {})
        result = tag(bench, documents, GRAPH, config)
        rows = [row for file in result.files for row in pq.read_table(file.path).to_pylist()]
        assert all(row["skills"] == [row["id"].split("-")[0]] for row in rows)
        seen.add(str(rows))
        counts = json.loads((bench.stages / "asked" / "manifest.json").read_bytes())["counts"]
        assert (counts["answered"], counts["questions"], counts["tokens in"]) == (90, 23, 23 * 9)
        assert counts["cost in millionths"] == 23 * 9
    assert len(seen) == 1
    asked = len(Handler.asked)
    assert asked == 180
    again = tag(bench, documents, GRAPH, TaggingConfig(methods=("classifier",), max_skills=6, endpoint=endpoint))
    assert again.counts["tagged"] == 300
    assert len(Handler.asked) == asked  # another classifier learns from the answers in the cache


def test_an_endpoint_needs_a_classifier(endpoint: EndpointConfig) -> None:
    with pytest.raises(ConfigError, match="teach the classifier"):
        TaggingConfig(methods=("patterns",), endpoint=endpoint)
