"""The feed inside the real Lightning Trainer: order, reports, checkpoints, ranks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from prereq.graph.errors import ConfigError
from prereq.selector.feed import Batch, WaitConfig
from prereq.selector.feed.lightning import FeedCallback, FeedDataModule

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*is deprecated"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
]
QUICK = WaitConfig(first_s=0.005, most_s=0.02, timeout_s=20.0, start_timeout_s=10.0)
REPORT = {"losses": {"add": 2.0}, "eval_tokens": {"add": 10}}
MakeRun = Callable[..., Any]


class Recorder(LightningModule):
    """A module that notes what it was trained on; one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[list[int]] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch.tolist())
        return (self.weight * batch.float().mean()).square().sum() * 1e-6

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    @property
    def numbers(self) -> list[int]:
        return [n for batch in self.seen for n in batch]


def collate(batch: Batch) -> torch.Tensor:
    return torch.tensor([int(i.removeprefix("doc-")) for i in batch.ids])


def data_of(run: Path, **changes: Any) -> FeedDataModule:
    return FeedDataModule(run, **{"collate": collate, "micro_batch": 4, "wait": QUICK, **changes})


def trainer_of(folder: Path, measured: list[int] | None = None, **changes: Any) -> Trainer:
    def measure(module: LightningModule) -> dict[str, Any]:
        assert isinstance(module, Recorder)
        if measured is not None:
            measured.append(trainer.global_step)
        return REPORT

    usual: dict[str, Any] = {
        "default_root_dir": folder,
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "accumulate_grad_batches": 3,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "callbacks": [],
    }
    settings = {**usual, **changes}
    settings["callbacks"] = [FeedCallback(measure), *settings["callbacks"]]
    trainer = Trainer(**settings)
    return trainer


def reports(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "feedback").iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_training_sees_every_row_once_in_order_and_reports_every_round(
    make_run: MakeRun, tmp_path: Path, workers: int
) -> None:
    run, measured, module = make_run(3), list[int](), Recorder()
    trainer = trainer_of(tmp_path, measured)
    trainer.fit(module, datamodule=data_of(run.root, num_workers=workers))
    assert module.numbers == list(range(108))
    assert measured == [0, 3, 6, 9]
    assert trainer.global_step == 9
    assert reports(run.root) == ["000000.json", "000001.json", "000002.json", "initial.json"]
    assert json.loads((run.root / "feedback/000001.json").read_bytes())["step"] == 6


@pytest.mark.parametrize("step", [3, 4, 8])
def test_training_goes_on_from_a_checkpoint_with_other_workers(make_run: MakeRun, tmp_path: Path, step: int) -> None:
    run = make_run(3)
    keeper = ModelCheckpoint(dirpath=tmp_path / "kept", filename="{step}", every_n_train_steps=step, save_top_k=-1)
    first = trainer_of(tmp_path, enable_checkpointing=True, callbacks=[keeper], max_steps=step + 1)
    first.fit(Recorder(), datamodule=data_of(run.root, num_workers=2))
    assert json.loads((run.root / "readers/trainer.json").read_bytes())["state"]["step"] == step - 1
    module, measured = Recorder(), list[int]()
    again = trainer_of(tmp_path, measured)
    again.fit(module, datamodule=data_of(run.root), ckpt_path=tmp_path / f"kept/step={step}.ckpt", weights_only=True)
    assert module.numbers == list(range(step * 12, 108))
    assert measured == [s for s in (3, 6, 9) if s > step]


class SaveInside(Callback):
    """Saves behind the second of three micro-batches of step 1, as a checkpoint by the clock may."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any) -> None:
        if batch[-1] == 4:
            trainer.save_checkpoint(self.path)


def test_a_checkpoint_inside_an_accumulation_goes_on_at_its_first_row(make_run: MakeRun, tmp_path: Path) -> None:
    run, path = make_run(3), tmp_path / "inside.ckpt"
    trainer_of(tmp_path, callbacks=[SaveInside(path)], max_steps=3).fit(Recorder(), datamodule=data_of(run.root))
    module, measured = Recorder(), list[int]()
    again = trainer_of(tmp_path, measured)
    again.fit(module, datamodule=data_of(run.root), ckpt_path=path, weights_only=True)
    assert module.numbers == list(range(12, 108))
    assert measured == [3, 6, 9]
    assert again.global_step == 9


def test_another_batch_size_than_the_runs_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"4 rows × 2 accumulated batches × 1 ranks are not .* global_batch of 12"):
        trainer_of(tmp_path, accumulate_grad_batches=2).fit(Recorder(), datamodule=data_of(make_run(1).root))


def test_lookahead_0_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(1, lookahead=0, uses_feedback=True)
    with pytest.raises(ConfigError, match="Lightning fetches batches before the loop asks"):
        trainer_of(tmp_path).fit(Recorder(), datamodule=data_of(run.root))


def test_a_trainer_without_the_data_module_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give the trainer a FeedDataModule"):
        trainer_of(tmp_path).fit(Recorder(), train_dataloaders=[torch.zeros(4)])


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_count_every_id_once(make_run: MakeRun, tmp_path: Path, workers: int) -> None:
    """Under torchrun and DDP, each global batch is the run's: no sampler deals it out a second time."""
    run = make_run(3)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, __file__, str(run.root), str(tmp_path), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    steps = [sorted(n for rank in seen for n in rank[s * 6 : s * 6 + 6]) for s in range(9)]
    assert [len(rank) for rank in seen] == [54, 54]
    assert steps == [list(range(s * 12, s * 12 + 12)) for s in range(9)]
    assert reports(run.root) == ["000000.json", "000001.json", "000002.json", "initial.json"]


def test_a_checkpoint_of_two_ranks_goes_on_in_one(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(3)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, __file__, str(run.root), str(tmp_path), "0", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    module = Recorder()
    again = trainer_of(tmp_path)
    again.fit(module, datamodule=data_of(run.root), ckpt_path=tmp_path / "kept/step=4.ckpt", weights_only=True)
    assert module.numbers == list(range(48, 108))
    assert again.global_step == 9


def main(run: str, folder: str, workers: str, save_steps: str = "") -> None:
    """One rank of the tests with two."""
    module, saving = Recorder(), dict[str, Any]()
    if save_steps:
        steps = int(save_steps)
        keeper = ModelCheckpoint(dirpath=f"{folder}/kept", filename="{step}", every_n_train_steps=steps, save_top_k=-1)
        saving = {"enable_checkpointing": True, "callbacks": [keeper], "max_steps": steps + 1}
    trainer = trainer_of(Path(folder), devices=2, strategy="ddp", **saving)
    trainer.fit(module, datamodule=data_of(Path(run), micro_batch=2, num_workers=int(workers)))
    (Path(folder) / f"rank-{trainer.global_rank}.json").write_text(json.dumps(module.numbers))
    trainer.strategy.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # an orderly end can hang in gloo, as in test_hf.leave_at_once


if __name__ == "__main__":
    main(*sys.argv[1:])
