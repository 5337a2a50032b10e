"""A plain torch loop on a run, alone or under torchrun.

    prereq sample configs/quickstart.yaml &
    torchrun --nproc_per_node 2 examples/plain_loop.py runs/quickstart --checkpoint plain.pt

Every rank holds a `Feed`; rank 0's reports move the mixture of the rounds to come. Killed at any moment and started
again, also with another number of processes, it goes on behind its last checkpoint: no row is lost, none comes twice.
"""

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from prereq.selector.feed import Batch, Feed
from prereq.selector.feed.evaluation import EvaluationConfig, evaluate_holdout, prepare_holdout

SEPARATOR, VOCABULARY, WINDOW, IGNORE = 256, 257, 128, -100


class ByteModel(nn.Module):
    """Bytes -> logits of the next byte; a stand-in for your model."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.mix = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(self.embed(ids))[0])


def encode(text: str) -> list[int]:
    return list(text.encode())


def windows(batch: Batch, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """A share's documents end to end, every token a target once: inputs and targets, int64 `(windows, WINDOW)`."""
    documents = batch.input_ids or [encode(text) for text in batch.texts or []]
    stream = [SEPARATOR, *(token for ids in documents for token in (*ids, SEPARATOR))]
    padding = -(len(stream) - 1) % WINDOW
    inputs = torch.tensor(stream[:-1] + [SEPARATOR] * padding, device=device)
    targets = torch.tensor(stream[1:] + [IGNORE] * padding, device=device)
    return inputs.view(-1, WINDOW), targets.view(-1, WINDOW)


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, world_size: int) -> float:
    """One update on a global batch; the mean is over the tokens of all ranks, whatever their shares."""
    inputs, targets = windows(batch, next(model.parameters()).device)
    tokens = (targets != IGNORE).sum().double()
    nll = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    sums = torch.stack([nll.detach().double(), tokens])
    if world_size > 1:
        dist.all_reduce(sums)
    optimizer.zero_grad()
    (nll * world_size / sums[1]).backward()  # DDP averages gradients over the ranks
    optimizer.step()
    return float(sums[0] / sums[1])


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, feed: Feed) -> None:
    """Write a checkpoint whole or not at all, then tell the sampler how far this reader is."""
    value = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "feed": feed.state_dict()}
    torch.save(value, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)
    feed.checkpointed()


def train(run: Path, checkpoint: Path | None, rank: int, world_size: int) -> None:
    """Train to the end of the run."""
    torch.manual_seed(0)
    device = (
        torch.device("cuda", rank % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")
    )
    plain = ByteModel().to(device)
    model = nn.parallel.DistributedDataParallel(plain) if world_size > 1 else plain
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    feed = Feed(run, rank=rank, world_size=world_size)
    config = EvaluationConfig(tokens_per_skill=2048, window=WINDOW, start_token=SEPARATOR)
    split = prepare_holdout(feed.holdout("control"), feed.skills, encode, config)

    if checkpoint is not None and checkpoint.exists():
        value = torch.load(checkpoint, map_location=device, weights_only=True)
        plain.load_state_dict(value["model"])
        optimizer.load_state_dict(value["optimizer"])
        feed.load_state_dict(value["feed"])
        if feed.round_ended:  # it was saved between the round's last batch and its report
            feed.report(**evaluate_holdout(model, split).report())
    else:
        feed.report_initial(**evaluate_holdout(model, split).report())

    for batch in feed:
        loss = train_step(model, optimizer, batch, world_size)
        if feed.round_ended:
            feed.report(**evaluate_holdout(model, split).report(), step=batch.step)
        if batch.last_of_round and rank == 0:
            print(f"round {batch.round}, step {batch.step}: loss {loss:.3f}, waited {feed.waited_s:.1f} s", flush=True)
            if checkpoint is not None:
                save(checkpoint, plain, optimizer, feed)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small byte model on a run.")
    parser.add_argument("run", type=Path, help="the run's folder, of a `prereq sample` that runs or has ended")
    parser.add_argument(
        "--checkpoint", type=Path, help="written behind every round; read at the start when it is there"
    )
    args = parser.parse_args()
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        train(args.run, args.checkpoint, rank, world_size)
        if world_size > 1:
            # gloo's threads free tensors a little behind an exchange and need the interpreter's lock for it; a rank
            # that goes down at once holds the lock, waits for the threads, and can hang.
            dist.barrier()
            time.sleep(1.0)
    finally:
        if world_size > 1:
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
