"""`prereq export` as users call it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prereq.graph.errors import ConfigError
from prereq.jobs.cli import main
from prereq.jobs.export import parse_rounds


def test_rounds_are_written_as_a_slice() -> None:
    assert parse_rounds(":") == (0, None)
    assert parse_rounds("3:") == (3, None)
    assert parse_rounds("0:4") == (0, 4)
    for wrong in ("", "3", "-1:", "1:2:3", "a:b"):
        with pytest.raises(ConfigError, match=r"expected a:b, for example 0:4"):
            parse_rounds(wrong)


def test_a_folder_of_a_run_is_exported_and_found_done(
    make_pool: Callable[..., Path], drive: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = drive(make_pool(), mixer="proportional", rounds=2, batches_per_round=1)
    run.sampler().run()
    (Path(run.pool.folder.name) / "manifest.json").unlink()
    out = str(tmp_path / "out")
    command = ["export", str(run.folder), "--to", "nanogpt", "--out", out, "--tokenizer", "bytes", "--rounds", "1:"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{out}: nanogpt, rounds 1 to 1: 8 documents, ")
    assert "written: documents 8, tokens " in told.out
    assert told.err == "no val.bin: the run's pool or its tokenizer is not here\n"
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rounds"] == [1, 2]
    assert main(command) == 0
    assert "was exported before; nothing to do" in capsys.readouterr().out
    assert main([*command[:-1], "0:"]) == 2
    assert "holds another export (it differs in rounds" in capsys.readouterr().err
    assert main(["export", str(run.folder), "--to", "zip", "--out", out]) == 2
    assert main(["export", str(run.folder), "--to", "mds", "--out", out, "--set", "a=1"]) == 2
    assert main(["export", str(tmp_path), "--to", "mds", "--out", out]) == 2
    assert "holds neither a run" in capsys.readouterr().err
