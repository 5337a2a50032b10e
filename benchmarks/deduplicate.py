"""Near-duplicate removal alone, as a whole process on Ray: what bench_corpus.py times. Prints its counts as JSON.

python benchmarks/deduplicate.py OUT FILE_OR_FOLDER [--cpus 2]
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from prereq.jobs.executor import RayConfig, make_executor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.dedup import deduplicate
from prereq.jobs.stages.ingest import ingest
from prereq.jobs.stages.runner import Bench
from prereq.selector.corpus.documents import IngestConfig, SourceConfig
from prereq.selector.corpus.duplicates import DuplicatesConfig

# word 5-grams, threshold .8, 18 bands of 7 rows within 128 permutations: the defaults, written out
DEDUP = DuplicatesConfig(threshold=0.8, num_perm=128, bands=18, rows=7, ngram=5, unit="word")


def main() -> int:
    """Ingest the input and deduplicate it; the kept documents lie below OUT/dedup."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("input")
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    with make_executor(RayConfig(num_cpus=options.cpus)) as executor:
        bench = Bench(stages=options.out, executor=executor, progress=Progress(), seed=0)
        documents = ingest(bench, [SourceConfig(name="corpus", paths=(options.input,))], IngestConfig())
        counts = deduplicate(bench, documents, DEDUP).counts
    settings = {key: value for key, value in asdict(DEDUP).items() if value is not None}
    print(json.dumps({"counts": counts, "settings": settings}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
