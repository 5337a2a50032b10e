"""The Hugging Face Trainer on a run, alone or under torchrun.

    prereq sample configs/quickstart.yaml &
    torchrun --nproc_per_node 2 examples/hf_trainer.py runs/quickstart --out out/hf

Started again it goes on from the newest checkpoint in `--out`.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from prereq.selector.feed.evaluation import EvaluationConfig, evaluate_holdout, prepare_holdout
from prereq.selector.feed.hf import FeedCallback, FeedTrainer
from prereq.selector.feed.torch_data import FeedDataset

SEPARATOR, VOCABULARY, WINDOW, IGNORE = 256, 257, 128, -100


def encode(text: str) -> list[int]:
    return list(text.encode())


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows of a micro-batch -> bytes up to the window, padded on the right."""
    ids = [[SEPARATOR, *(row["input_ids"] if "input_ids" in row else encode(row["text"]))][:WINDOW] for row in rows]
    longest = max(len(row) for row in ids)
    return {
        "input_ids": torch.tensor([row + [SEPARATOR] * (longest - len(row)) for row in ids]),
        "labels": torch.tensor([row + [IGNORE] * (longest - len(row)) for row in ids]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small GPT-2 on a run.")
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--out", type=Path, required=True, help="for checkpoints")
    parser.add_argument("--steps", type=int, default=1_000_000, help="at most; the run's end comes first")
    parser.add_argument("--accumulate", type=int, default=2, help="micro-batches per step")
    parser.add_argument("--save-steps", type=int, default=50)
    args = parser.parse_args()
    settings = TrainingArguments(
        output_dir=str(args.out),
        max_steps=args.steps,
        gradient_accumulation_steps=args.accumulate,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        save_steps=args.save_steps,
        logging_steps=10,
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_num_workers=1,
        remove_unused_columns=False,
    )
    dataset = FeedDataset(args.run, rank=settings.process_index, world_size=settings.world_size)
    share = dataset.feed.global_batch // settings.world_size
    settings.per_device_train_batch_size = share // args.accumulate  # one optimizer step is one global batch

    size = GPT2Config(vocab_size=VOCABULARY, n_positions=WINDOW, n_embd=64, n_layer=2, n_head=2)
    size.bos_token_id = size.eos_token_id = SEPARATOR
    config = EvaluationConfig(tokens_per_skill=2048, window=WINDOW, start_token=SEPARATOR)
    split = prepare_holdout(dataset.feed.holdout("control"), dataset.feed.skills, encode, config)
    trainer = FeedTrainer(
        model=GPT2LMHeadModel(size),
        args=settings,
        train_dataset=dataset,
        data_collator=collate,
        callbacks=[FeedCallback(dataset, lambda model: evaluate_holdout(model, split).report())],
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(args.out)) if args.out.exists() else None)
    # gloo's threads free tensors a little behind an exchange and need the interpreter's lock for it; a rank that goes
    # down at once holds the lock, waits for the threads, and can hang.
    trainer.accelerator.wait_for_everyone()
    time.sleep(1.0)
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
