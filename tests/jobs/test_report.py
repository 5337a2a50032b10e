"""The page of a run: whole at every stage of it, self-contained, and harmless whatever a corpus or a graph says."""

import argparse
import html
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ManifestError
from prereq.graph.skill import Edge, Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.cli import main
from prereq.jobs.report import main_report, write_report
from prereq.selector.rounds.pool import Pool

MakeDriver = Callable[..., Any]
VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADING = {"src", "href", "xlink:href", "action", "data", "poster", "srcset", "formaction", "background"}


class Page(HTMLParser):
    """Reads a page and checks that its elements nest; keeps tags, attributes and visible text."""

    def __init__(self, path: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = Path(path).read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read_page(path: str) -> Page:
    """A page that passes what every page must: nothing that runs or loads, drawings that are well-formed."""
    page = Page(path)
    assert not {"script", "iframe", "object", "embed", "img", "link", "form", "base"} & set(page.tags)
    assert not [a for a in page.attributes if a[0] in LOADING or a[0].startswith("on")]
    assert set(re.findall(r"\w+://[^\s\"'<>&;]*", page.source)) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in page.source
    assert "@import" not in page.source
    for drawing in re.findall(r"<svg.*?</svg>", page.source, re.DOTALL):
        ElementTree.fromstring(drawing)
    return page


def write_graph(run: Path, skills: list[str], name: Callable[[str], str] = str.title) -> None:
    """A chain of the skills as the run's graph."""
    edges = [Edge(prerequisite=a, target=b) for a, b in pairwise(skills)]
    graph = SkillGraph("prerequisite", [Skill(id=skill, name=name(skill)) for skill in skills], edges)
    (run / "graph.json").write_bytes(canonical_json(graph.to_dict()))


def test_finished_run_has_every_section(make_driver: MakeDriver) -> None:
    driver = make_driver()
    driver.finish()
    write_graph(driver.folder, list(driver.pool.skills))
    page = read_page(write_report(str(driver.folder)))
    for heading in ("What was drawn", "Emphasis", "Requested and drawn", "Loss", "Skill graph", "Skills", "Rounds"):
        assert f"<h2>{heading}</h2>" in page.source
    for words in ("Arms", "Examples from round 5", "Configuration and versions", "done: 6 rounds (budget)"):
        assert words in page.text
    assert "Worth knowing" not in page.text
    assert page.tags.count("svg") == 5
    assert f"{driver.losses(3)['skill-d']:.4f}" in page.text


def test_cohesion_of_arms_is_shown_where_the_build_wrote_it_down(make_driver: MakeDriver) -> None:
    driver = make_driver()
    driver.finish()
    assert "mean cosine of its documents" not in read_page(write_report(str(driver.folder))).source
    pool = driver.folder.parent / "pool"
    arm = driver.pool.layouts[0].id
    (pool / "summary.json").write_bytes(canonical_json({"arms": {arm: {"cohesion": 0.375}}}))
    page = read_page(write_report(str(driver.folder)))
    assert "mean cosine of its documents" in page.source
    assert "0.38" in page.text


def test_report_can_be_written_at_every_stage(make_driver: MakeDriver) -> None:
    driver = make_driver()
    driver.info()
    assert "no round is committed yet" in read_page(write_report(str(driver.folder))).text
    driver.report("initial")
    assert "untrained" in read_page(write_report(str(driver.folder))).text
    driver.sampler().run(patient=False)
    assert "2 rounds so far" in read_page(write_report(str(driver.folder))).text
    driver.report(0)
    assert "<h2>Loss</h2>" in read_page(write_report(str(driver.folder))).source
    shutil.rmtree(driver.folder.parent / "pool")
    assert "the pool cannot be read" in read_page(write_report(str(driver.folder))).text


def test_one_round_without_feedback(make_driver: MakeDriver) -> None:
    driver = make_driver(mixer="uniform", rounds=1)
    driver.finish()
    (driver.folder / "feedback").exists()
    for path in (driver.folder / "feedback").glob("*"):
        path.unlink()
    page = read_page(write_report(str(driver.folder)))
    assert "<h2>Loss</h2>" not in page.source
    assert "<h2>What was drawn</h2>" in page.source


EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</svg></style><iframe src=//evil>",
    "$\\frac{a}{b}$ {x} %s",
    "javascript:alert(1)//&lt;script&gt;",
    "\x1b]0;title\x07\u202egnp.exe",
]


@pytest.mark.parametrize("with_graph", [True, False])
def test_hostile_names_and_documents_are_text(
    drive: MakeDriver, make_pool: Callable[..., Path], with_graph: bool
) -> None:
    """The graph refuses hostile ids, so with a graph the names are hostile, without one the ids of the pool."""
    skills = [f"s{index}" for index in range(len(EVIL))] if with_graph else EVIL
    pool = make_pool([(f"arm{index}", [400] * 30, [skill]) for index, skill in enumerate(skills)], skills=skills)
    _make_hostile(pool)
    driver = drive(pool, rounds=3)
    driver.finish()
    if with_graph:
        write_graph(driver.folder, skills, name=lambda skill: EVIL[int(skill[1:])])
    page = read_page(write_report(str(driver.folder)))
    for name in EVIL[:5]:
        assert name in html.unescape(page.source)
    assert "\x1b" not in page.source
    assert "<b>document</b>" in page.text
    assert "<b>document</b>" not in page.source


def _make_hostile(pool: Path) -> None:
    """Hostile names for arms, and hostile documents."""
    arms = pq.read_table(pool / "arms.parquet")
    pq.write_table(
        arms.set_column(1, "name", [[EVIL[i % len(EVIL)] for i in range(arms.num_rows)]]), pool / "arms.parquet"
    )
    part = next(pool.glob("part-*.parquet"))
    table = pq.read_table(part)
    texts = ["<b>document</b> </blockquote><script>steal()</script> " + t for t in table["text"].to_pylist()]
    changed = table.set_column(1, "text", [texts]).cast(table.schema)
    sizes = [pq.ParquetFile(part).metadata.row_group(g).num_rows for g in range(pq.ParquetFile(part).num_row_groups)]
    with pq.ParquetWriter(part, changed.schema) as writer:
        for index, size in enumerate(sizes):
            writer.write_table(changed.slice(sum(sizes[:index]), size))


def test_damaged_graph_is_a_warning(make_driver: MakeDriver) -> None:
    driver = make_driver(mixer="uniform")
    driver.finish()
    (driver.folder / "graph.json").write_text("{not json")
    page = read_page(write_report(str(driver.folder)))
    assert "the graph is not shown" in page.text
    assert "<h2>Skill graph</h2>" not in page.source


def test_long_runs_are_thinned_out(make_driver: MakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prereq.jobs.report._ROUNDS_SHOWN", 20)
    monkeypatch.setattr("prereq.jobs.figures.COLUMNS", 10)
    driver = make_driver(mixer="uniform", rounds=45, batches_per_round=1, global_batch=1, max_epochs=50)
    driver.finish()
    page = read_page(write_report(str(driver.folder)))
    assert "The newest 20 of 45" in page.text
    assert "round 40: skill-a" in page.text
    assert "round 41: skill-a" not in page.text  # drawn together with round 40


def test_writing_again_replaces_the_page(make_driver: MakeDriver) -> None:
    driver = make_driver(mixer="uniform")
    driver.sampler().run()
    first = Path(write_report(str(driver.folder))).read_bytes()
    assert Path(write_report(str(driver.folder))).read_bytes() == first
    assert sorted(p.name for p in driver.folder.glob(".tmp*")) == []


def test_verb_takes_a_folder_and_prints_table_and_path(
    make_driver: MakeDriver, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = make_driver()
    driver.finish()
    assert main(["report", str(driver.folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("skill ")
    assert out.rstrip().endswith(f"report: {driver.folder / 'report.html'}")
    assert (driver.folder / "report.html").is_file()
    assert main_report(str(driver.folder), argparse.Namespace(json=True)) == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(driver.folder / "report.html")


def test_verb_refuses_what_is_no_run(make_pool: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    pool = make_pool()
    assert main(["report", str(pool)]) == 2
    assert "no run" in capsys.readouterr().err
    assert main(["report", str(pool / "holdout")]) == 2
    assert "holds neither a run" in capsys.readouterr().err
    with pytest.raises(ManifestError):
        write_report(str(pool))
    assert Pool(str(pool)).skills
