"""Other loaders over the documents or packed rows of a run, in the peers' interpreter: nothing here imports prereq.

    PYTHON benchmarks/feed_peers.py MODE DATA OUT BATCH

DATA is a folder of Parquet shards (`rounds/` of a run) for the modes that write, and the written folder for those that
read. Prints one JSON object: seconds after import, rows, bytes of text or tokens.
"""

import glob
import importlib.machinery
import json
import os
import shutil
import sys
import time
import types

SEQ_LEN = 2048


def shards(folder):
    """The shards of a run, in order."""
    return sorted(glob.glob(os.path.join(folder, "*", "shard-*.parquet")))


def text_rows(paths):
    """Documents as dicts of id and text."""
    import pyarrow.parquet as pq

    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(1000, columns=["id", "text"]):
            yield from batch.to_pylist()


def packed_rows(paths):
    """Rows of tokens as int32 arrays."""
    import pyarrow.parquet as pq

    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(256, columns=["input_ids"]):
            flat = batch.column(0).flatten().to_numpy()
            for start in range(0, len(flat), SEQ_LEN):
                yield flat[start : start + SEQ_LEN]


def scan_lists(paths):
    """Texts as lists of strings, column by column, without a dict per row."""
    import pyarrow.parquet as pq

    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(1000, columns=["id", "text"]):
            batch.column(0).to_pylist()
            yield from batch.column(1).to_pylist()


def lit_text(path):
    """What LitData writes of one shard."""
    yield from text_rows([path])


def lit_tokens(path):
    """What LitData writes of one shard, for its token loader."""
    import torch

    for row in packed_rows([path]):
        yield torch.from_numpy(row.copy())


def write(mode, data, out):
    """Put the run's rows into a peer's own format."""
    shutil.rmtree(out, ignore_errors=True)
    if mode.startswith("mds"):
        from streaming import MDSWriter

        packed = mode == "mds_packed_write"
        columns = {"input_ids": f"ndarray:int32:{SEQ_LEN}"} if packed else {"id": "str", "text": "str"}
        rows = ({"input_ids": row} for row in packed_rows(shards(data))) if packed else text_rows(shards(data))
        with MDSWriter(out=out, columns=columns, hashes=["xxh64"], size_limit=1 << 24) as writer:
            for row in rows:
                writer.write(row)
        return
    import litdata

    packed = mode == "lit_packed_write"
    more = {"item_loader": litdata.TokensLoader(block_size=SEQ_LEN)} if packed else {}
    litdata.optimize(
        fn=lit_tokens if packed else lit_text,
        inputs=[os.path.abspath(path) for path in shards(data)],
        output_dir=out,
        chunk_bytes="16MB",
        num_workers=1,
        **more,
    )
    with open(os.path.join(out, "index.json")) as file:
        if not json.load(file)["chunks"]:
            raise SystemExit("litdata wrote no chunks")


def open_text(mode, data, batch):
    """An iterable of texts."""
    if mode == "arrow_dicts":
        return (row["text"] for row in text_rows(shards(data)))
    if mode == "arrow_lists":
        return scan_lists(shards(data))
    if mode in ("hf", "hf_shuffle"):
        from datasets import load_dataset

        found = load_dataset("parquet", data_files=shards(data), split="train", streaming=True, columns=["id", "text"])
        found = found.shuffle(seed=0, buffer_size=10_000) if mode == "hf_shuffle" else found
        return (row["text"] for row in found)
    if mode.startswith("mds"):
        from streaming import StreamingDataset

        found = StreamingDataset(
            local=data,
            shuffle=False,
            batch_size=batch,
            validate_hash="xxh64" if mode == "mds_hash" else None,
        )
        return (row["text"] for row in found)
    import litdata

    return (row["text"] for row in litdata.StreamingDataset(data, shuffle=False))


def open_packed(mode, data, batch):
    """An iterable of torch batches `(batch, SEQ_LEN)`."""
    from torch.utils.data import DataLoader

    if mode == "mds_packed":
        from streaming import StreamingDataset

        dataset = StreamingDataset(local=data, shuffle=False, batch_size=batch)
        return (item["input_ids"] for item in DataLoader(dataset, batch_size=batch))
    import litdata

    dataset = litdata.StreamingDataset(data, item_loader=litdata.TokensLoader(block_size=SEQ_LEN), shuffle=False)
    return iter(litdata.StreamingDataLoader(dataset, batch_size=batch, num_workers=0))


def stand_in_for_torchvision():
    """Empty modules where the installed torchvision does not fit torch: the loaders only import it."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        names = {"": (), ".datasets": ("VisionDataset", "CIFAR10"), ".transforms": (), ".io": ()}
        names[".transforms.functional"] = ("to_tensor",)
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name, members in names.items():
            module = types.ModuleType(f"torchvision{name}")
            module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
            module.__path__ = []
            for member in members:
                setattr(module, member, type(member, (), {}))
            sys.modules[module.__name__] = module


def import_peer(mode):
    """What a mode needs, so that its import is not timed."""
    if mode.startswith(("mds", "lit")):
        stand_in_for_torchvision()
    if mode.startswith("mds"):
        import streaming

        streaming.base.util.clean_stale_shared_memory()
    elif mode.startswith("lit"):
        import litdata  # noqa: F401
    elif mode.startswith("hf"):
        import datasets  # noqa: F401
    else:
        import pyarrow.parquet  # noqa: F401
    if mode.endswith("packed"):
        import torch

        torch.set_num_threads(1)


def main():
    mode, data, out, batch = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    import_peer(mode)
    begin, cpu, rows, amount = time.perf_counter(), time.process_time(), 0, 0
    if mode.endswith("_write"):
        write(mode, data, out)
    elif mode.endswith("packed"):
        for tensor in open_packed(mode, data, batch):
            rows += tensor.shape[0]
            amount += tensor.numel()
    else:
        for text in open_text(mode, data, batch):
            rows += 1
            amount += len(text)
    found = {"seconds": time.perf_counter() - begin, "cpu_s": time.process_time() - cpu, "rows": rows, "amount": amount}
    print("RESULT " + json.dumps(found))


if __name__ == "__main__":  # LitData starts processes that import this file again
    main()
