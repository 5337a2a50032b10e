"""datatrove's MinHash deduplication, run by datatrove's own environment: python peer_datatrove.py OUT PARQUET_FOLDER.

Four stages on two workers; 9 buckets of 13 hashes are the optimum of datasketch's rule for threshold .8 within 128.
"""

import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.hashing import HashConfig

BUCKETS, HASHES = 9, 13


def main() -> int:
    """Write the kept documents below OUT/kept."""
    out, source = sys.argv[1:]
    tasks = len(list(Path(source).glob("*.parquet")))
    config = MinhashConfig(
        n_grams=5, num_buckets=BUCKETS, hashes_per_bucket=HASHES, hash_config=HashConfig(precision=64)
    )
    steps = [
        (tasks, [ParquetReader(source), MinhashDedupSignature(f"{out}/signatures", config=config, language="eng")]),
        (BUCKETS, [MinhashDedupBuckets(f"{out}/signatures", f"{out}/buckets", config=config)]),
        (1, [MinhashDedupCluster(f"{out}/buckets", f"{out}/remove", config=config)]),
        (tasks, [ParquetReader(source), MinhashDedupFilter(f"{out}/remove"), ParquetWriter(f"{out}/kept")]),
    ]
    for number, (count, pipeline) in enumerate(steps):
        LocalPipelineExecutor(pipeline, tasks=count, workers=min(2, count), logging_dir=f"{out}/logs-{number}").run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
