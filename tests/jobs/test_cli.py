"""The command line: what it says, how it fails, and that it is quick to say so."""

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from prereq.graph.errors import TableError
from prereq.jobs import build as building
from prereq.jobs.cli import main

HEAVY = ("ray", "torch", "sklearn", "pydantic", "pyarrow", "scipy", "fasttext", "rich", "yaml")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A small configuration; its corpus does not exist."""
    (tmp_path / "e.csv").write_text("prerequisite,target\na,b\nb,c\n")
    path = tmp_path / "c.yaml"
    settings = {
        "run_dir": str(tmp_path / "run"),
        "pool_dir": str(tmp_path / "pool"),
        "rounds": 2,
        "sources": [{"name": "web", "paths": [str(tmp_path / "*.jsonl")]}],
        "graph": {"edges": str(tmp_path / "e.csv")},
        "ray": {"num_cpus": 0},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def test_help_teaches_and_imports_nothing_heavy() -> None:
    code = f"""
import sys
from prereq.jobs.cli import main
try:
    main(["--help"])
except SystemExit as leave:
    assert leave.code == 0
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "prereq run quickstart" in done.stdout
    verbs = [word for word in ("build", "sample", "graph") if f"    {word}" in done.stdout]
    assert verbs == ["build", "sample", "graph"]
    assert time.monotonic() - start < 5  # 0.1 s on an idle machine


def test_no_verb_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "verbs, in the order of the work" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("prereq 0.")


def test_a_dry_run_prints_everything_and_writes_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(config.parent.rglob("*"))
    assert main(["build", str(config), "--dry-run", "--set", "pool.seed=7"]) == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out)["pool"] == {"seed": 7}
    assert "dry run, nothing is written. build would work on" in out
    assert main(["sample", str(config), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["config"]["rounds"] == 2
    assert told["work"].startswith("sample: ")
    assert sorted(config.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "C", "--set", "dedup.treshold=0.5"], "C: dedup.treshold: unknown key; did you mean threshold?"),
        (["build", "C", "--set", "rounds=x"], "C: rounds: should be a valid integer, got 'x'"),
        (
            ["build", "nowhere.yaml"],
            "nowhere.yaml: there is no such file; give a YAML file or a shipped configuration:",
        ),
        (["build", "C", "--set", "oops"], "--set oops: expected key=value"),
        (["graph", "check", "C", "--set", "graph.edges=none.csv"], "none.csv: cannot be read"),
        (["build", "C"], "*.jsonl"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(
    config: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(config) if word == "C" else word for word in arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("prereq: ")
    assert told.err.count("\n") == 1
    assert said.replace("C", str(config)) in told.err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (TableError("part 3: is damaged"), 2, "prereq: part 3: is damaged\n"),
        (KeyboardInterrupt(), 130, "prereq: interrupted; run the same command again to go on\n"),
        (OSError(errno.EFBIG, "x"), 2, "prereq: writing: File too large; raise the limit on file sizes"),
        (OSError(errno.ENOSPC, "x", "/pool/part"), 2, "prereq: /pool/part: No space left on device; free space and"),
        (PermissionError(errno.EACCES, "x", "/pool"), 2, "prereq: /pool: Permission denied; mend its permissions"),
    ],
)
def test_every_end_has_its_exit_code(
    config: Path,
    raised: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*args: Any) -> None:
        raise raised

    monkeypatch.setattr(building, "build", fail)
    assert main(["build", str(config)]) == code
    assert capsys.readouterr().err.startswith(said)


def test_a_bug_is_a_traceback(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(building, "build", fail)
    with pytest.raises(KeyError, match="bug"):
        main(["build", str(config)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_build_in_words(config: Path, number: signal.Signals) -> None:
    code = f"""
import sys, time
from prereq.jobs import build
from prereq.jobs.cli import main
def wait(*args):
    print("waiting", flush=True)
    time.sleep(60)
build.build = wait
sys.exit(main(["build", {str(config)!r}]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that started the tests in the background may have told its children to ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err == "prereq: interrupted; run the same command again to go on\n"


def test_the_reader_of_a_pipe_may_leave(config: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m prereq.jobs build {config} --dry-run | true",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in done.stderr


def test_a_sweep_takes_no_overrides(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if main(["sweep", str(config), "--set", "rounds=3"]) != 2:
        pytest.fail("accepted")
    assert "belong under `set:` in its file" in capsys.readouterr().err


def test_a_missing_extra_is_one_line_with_the_way_to_install_it(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "prereq.jobs.config", raising=False)
    monkeypatch.setitem(sys.modules, "pydantic", None)  # what an import of a module that is not there meets
    assert main(["build", str(config)]) == 2
    assert (
        capsys.readouterr().err == "prereq: this needs pydantic, which is not installed: pip install 'prereq[jobs]'\n"
    )


def test_control_characters_of_a_quoted_name_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(tmp_path / "red\x1b[31m.yaml")]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "red\\x1b[31m.yaml" in err
