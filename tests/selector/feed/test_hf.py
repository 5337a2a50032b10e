"""The feed inside the real Hugging Face Trainer: order, reports, checkpoints, ranks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from transformers import TrainingArguments

from prereq.graph.errors import ConfigError
from prereq.selector.feed import WaitConfig
from prereq.selector.feed.hf import FeedCallback, FeedTrainer, rows
from prereq.selector.feed.torch_data import FeedDataset

pytestmark = pytest.mark.slow
QUICK = WaitConfig(first_s=0.005, most_s=0.02, timeout_s=20.0, start_timeout_s=10.0)
REPORT = {"losses": {"add": 2.0}, "eval_tokens": {"add": 10}}
MakeRun = Callable[..., Any]


class Recorder(nn.Module):
    """A model that notes what it was trained on; one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[list[int]] = []

    def forward(self, number: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen.append(number.tolist())
        return {"loss": (self.weight * number.float().mean()).square().sum() * 1e-6}


def collate(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    assert set(features[0]) == {"id", "arm", "skills", "n_tokens", "text"}
    return {"number": torch.tensor([int(row["id"].removeprefix("doc-")) for row in features])}


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    usual: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 3,
        "max_steps": 9,
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
    }
    return TrainingArguments(**{**usual, **changes})


def trainer_of(run: Any, args: TrainingArguments, measured: list[int] | None = None) -> FeedTrainer:
    dataset = FeedDataset(run.root, wait=QUICK, rank=args.process_index, world_size=args.world_size)

    def measure(model: nn.Module) -> dict[str, Any]:
        assert isinstance(model, Recorder)
        if measured is not None:
            measured.append(dataset.feed.next_step)
        return REPORT

    return FeedTrainer(
        model=Recorder(),
        args=args,
        train_dataset=dataset,
        data_collator=collate,
        callbacks=[FeedCallback(dataset, measure)],
    )


def numbers(trainer: FeedTrainer) -> list[int]:
    return [n for batch in trainer.model.seen for n in batch]


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_count_every_id_once(make_run: MakeRun, tmp_path: Path, workers: int) -> None:
    """Under torchrun and accelerate, each global batch is the run's: nothing is dealt out a second time."""
    run = make_run(3)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, __file__, str(run.root), str(tmp_path), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert [len(numbers) for numbers in seen] == [54, 54]
    steps = [sorted(n for rank in seen for n in rank[s * 6 : s * 6 + 6]) for s in range(9)]
    assert steps == [list(range(s * 12, s * 12 + 12)) for s in range(9)]
    assert reports(run) == ["000000.json", "000001.json", "000002.json", "initial.json"]


def reports(run: Any) -> list[str]:
    return sorted(path.name for path in (run.root / "feedback").iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_training_sees_every_row_once_in_order_and_reports_every_round(
    make_run: MakeRun, tmp_path: Path, workers: int
) -> None:
    run, measured = make_run(3), list[int]()
    trainer = trainer_of(run, arguments(tmp_path / "out", dataloader_num_workers=workers), measured)
    trainer.train()
    assert numbers(trainer) == list(range(108))
    assert {len(batch) for batch in trainer.model.seen} == {4}
    assert measured == [0, 3, 6, 9]
    assert reports(run) == ["000000.json", "000001.json", "000002.json", "initial.json"]
    assert json.loads((run.root / "feedback/000001.json").read_bytes())["step"] == 6


def test_training_goes_on_from_a_checkpoint_inside_a_round(make_run: MakeRun, tmp_path: Path) -> None:
    run, out = make_run(3), tmp_path / "out"
    first = trainer_of(run, arguments(out, max_steps=9, save_strategy="steps", save_steps=4, dataloader_num_workers=2))
    first.train()
    assert json.loads((run.root / "readers/trainer.json").read_bytes())["state"]["step"] == 8, "of the last"
    again = trainer_of(run, arguments(out, max_steps=9))
    again.train(resume_from_checkpoint=str(out / "checkpoint-4"))
    assert numbers(again) == list(range(48, 108))
    assert again.state.global_step == 9


def test_a_round_that_ended_before_a_checkpoint_was_reported_before_it(make_run: MakeRun, tmp_path: Path) -> None:
    run, out = make_run(3), tmp_path / "out"
    trainer_of(run, arguments(out, max_steps=3, save_strategy="steps", save_steps=3)).train()
    measured: list[int] = []
    again = trainer_of(run, arguments(out, max_steps=9), measured)
    again.train(resume_from_checkpoint=str(out / "checkpoint-3"))
    assert measured == [6, 9]


def test_a_run_shorter_than_max_steps_ends_the_training(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(2)
    trainer = trainer_of(run, arguments(tmp_path / "out", max_steps=50))
    trainer.train()
    assert numbers(trainer) == list(range(72))


def test_a_checkpoint_of_another_trainer_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run, out = make_run(3), tmp_path / "out"
    trainer_of(run, arguments(out, max_steps=3, save_strategy="steps", save_steps=3)).train()
    state = out / "checkpoint-3/trainer_state.json"
    value = json.loads(state.read_bytes())
    del value["stateful_callbacks"]["FeedCallback"]
    state.write_text(json.dumps(value))
    with pytest.raises(ConfigError, match="the checkpoint at step 3 holds no position of a feed"):
        trainer_of(run, arguments(out)).train(resume_from_checkpoint=str(out / "checkpoint-3"))


def test_another_batch_size_than_the_runs_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    trainer = trainer_of(make_run(1), arguments(tmp_path / "out", gradient_accumulation_steps=2))
    with pytest.raises(ConfigError, match=r"4 rows × 2 accumulation steps × 1 processes are 8, .* global_batch is 12"):
        trainer.train()


def test_lookahead_0_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(1, lookahead=0, uses_feedback=True)
    with pytest.raises(ConfigError, match="Hugging Face Trainer fetches batches before the loop asks"):
        trainer_of(run, arguments(tmp_path / "out")).train()


def test_rows_hold_what_a_batch_holds(make_run: MakeRun) -> None:
    dataset = FeedDataset(make_run(1).root, wait=QUICK, columns=["text", "level", "skills", "arm", "n_tokens"])
    batch = next(iter(dataset))
    found = rows(batch)
    assert [row["id"] for row in found] == batch.ids
    assert found[3]["text"] == (batch.texts or [])[3]
    assert found[3]["level"] == "3"


def test_a_checkpoint_of_two_ranks_goes_on_in_one(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(3)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, __file__, str(run.root), str(tmp_path), "0", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    again = trainer_of(run, arguments(tmp_path / "one"))
    again.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-4"))
    assert numbers(again) == list(range(48, 108))


def leave_at_once() -> None:
    """End a rank without taking anything down.

    gloo's threads free tensors a little behind an exchange, a barrier too, and need the interpreter's lock for it. A
    process that goes down at once holds the lock while it waits for the threads, and hangs a few times in a hundred.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main(run: str, folder: str, workers: str, save_steps: str = "") -> None:
    """One rank of the tests with two."""
    saving = {"save_strategy": "steps", "save_steps": int(save_steps), "max_steps": 5} if save_steps else {}
    args = arguments(
        Path(folder) / "out",
        per_device_train_batch_size=2,
        dataloader_num_workers=int(workers),
        ddp_backend="gloo",
        **saving,
    )
    trainer = trainer_of(SimpleNamespace(root=run), args)
    trainer.train()
    (Path(folder) / f"rank-{args.process_index}.json").write_text(json.dumps(numbers(trainer)))
    trainer.accelerator.wait_for_everyone()
    leave_at_once()


if __name__ == "__main__":
    main(*sys.argv[1:])
