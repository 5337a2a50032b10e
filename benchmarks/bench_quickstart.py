"""The quickstart as a whole process: seconds from start to report, and the memory of all its processes together.

    python benchmarks/bench_quickstart.py --out DIR [--runs 3]

Each run builds its pool anew in a temporary folder. Memory is PSS (shared pages counted once), summed over the process
tree and its Ray processes every 0.25 s; what is kept is the largest sum.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import pss_mib, tree
from recording import bars, record

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


def measure(folder: Path) -> dict[str, float]:
    """One whole run: wall seconds and peak MiB."""
    sets = [f"run_dir={folder}/run", f"pool_dir={folder}/pool"]
    command = [sys.executable, "-m", "prereq.jobs", "run", str(CONFIG), *(w for s in sets for w in ("--set", s))]
    start, peak = time.monotonic(), 0.0
    with open(folder / "out", "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        while process.poll() is None:
            peak = max(peak, sum(map(pss_mib, tree(process.pid))))
            time.sleep(0.25)
    if process.returncode != 0:
        raise SystemExit((folder / "out").read_text()[-2000:])
    return {"seconds": time.monotonic() - start, "mib": peak}


def main() -> int:
    """Run the quickstart several times; 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(measure(Path(folder)))
    values = {
        "quickstart_seconds": statistics.median(run["seconds"] for run in runs),
        "quickstart_gib": max(run["mib"] for run in runs) / 1024,
    }
    metrics = {"bars": bars("quickstart", values), "runs": runs}
    return record(options.out, {"config": "configs/quickstart.yaml", "runs": options.runs}, metrics)


if __name__ == "__main__":
    sys.exit(main())
