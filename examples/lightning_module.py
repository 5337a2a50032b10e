"""A Lightning module on a run, on one device or more.

    prereq sample configs/quickstart.yaml &
    python examples/lightning_module.py runs/quickstart --out out/lightning --devices 2

Started again it goes on from the checkpoint in `--out`.
"""

import argparse
import time
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F

from prereq.selector.feed import Batch, Feed
from prereq.selector.feed.evaluation import EvaluationConfig, evaluate_holdout, prepare_holdout
from prereq.selector.feed.lightning import FeedCallback, FeedDataModule

SEPARATOR, VOCABULARY, WINDOW, IGNORE = 256, 257, 128, -100


class ByteModule(LightningModule):
    """Bytes -> logits of the next byte; a stand-in for your module."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.mix = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(self.embed(ids))[0])

    def training_step(self, ids: torch.Tensor, batch_idx: int) -> torch.Tensor:
        targets = ids[:, 1:].clamp(min=0)
        logits = self(ids[:, :-1].clamp(min=0)).flatten(0, 1)
        return F.cross_entropy(logits, torch.where(ids[:, 1:] < 0, IGNORE, targets).flatten(), ignore_index=IGNORE)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def encode(text: str) -> list[int]:
    return list(text.encode())


def collate(batch: Batch) -> torch.Tensor:
    """A micro-batch as bytes up to the window, padded with -1: int64 `(rows, longest)`."""
    documents = batch.input_ids or [encode(text) for text in batch.texts or []]
    ids = [[SEPARATOR, *document][: WINDOW + 1] for document in documents]
    longest = max(len(row) for row in ids)
    return torch.tensor([row + [-1] * (longest - len(row)) for row in ids])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small byte module on a run.")
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--out", type=Path, required=True, help="for checkpoints")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=2, help="micro-batches per step")
    parser.add_argument("--save-steps", type=int, default=50)
    args = parser.parse_args()

    feed = Feed(args.run, reporter=False)  # for its sizes and its holdout; the callback reports
    config = EvaluationConfig(tokens_per_skill=2048, window=WINDOW, start_token=SEPARATOR)
    split = prepare_holdout(feed.holdout("control"), feed.skills, encode, config)
    micro_batch = feed.global_batch // args.devices // args.accumulate  # one optimizer step is one global batch
    trainer = Trainer(
        default_root_dir=args.out,
        accelerator="auto",
        devices=args.devices,
        max_epochs=1,  # an epoch is the run, to its end
        accumulate_grad_batches=args.accumulate,
        logger=False,
        callbacks=[
            FeedCallback(lambda module: evaluate_holdout(module, split).report()),
            ModelCheckpoint(dirpath=args.out, every_n_train_steps=args.save_steps, save_last=True),
        ],
    )
    last = args.out / "last.ckpt"
    trainer.fit(
        ByteModule(),
        datamodule=FeedDataModule(args.run, collate, micro_batch, num_workers=1),
        ckpt_path=last if last.exists() else None,
        weights_only=True,
    )
    if args.devices > 1:
        # gloo's threads free tensors a little behind an exchange and need the interpreter's lock for it; a rank that
        # goes down at once holds the lock, waits for the threads, and can hang.
        trainer.strategy.barrier()
        time.sleep(1.0)


if __name__ == "__main__":
    main()
