"""Ten of the benchmark's schedules, and two samplers on one run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.mark.slow
def test_every_schedule_ends_like_the_undisturbed_run_or_says_why_it_stopped():
    command = [sys.executable, str(PROGRAM), "--schedules", "10", "--races", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["bad"] == []
    assert found["unclean"] == []
    assert (found["schedules"], found["races"]) == (10, 3)
    assert found["outcomes"]["same"] >= 8, "a clear error is for damage that nothing can mend"
    kinds = {kind for entry in found["found"] for _, kind in entry["events"]}
    assert len(kinds) >= 8, "ten schedules meet most of what can go wrong"
