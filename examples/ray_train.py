"""Ray Train workers on a run, resumed from Ray's own checkpoints.

    prereq sample configs/quickstart.yaml &
    python examples/ray_train.py runs/quickstart --workers 2 --storage out/ray

Started again with the same `--storage`, also with another number of workers, it goes on behind the newest checkpoint.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from plain_loop import SEPARATOR, WINDOW, ByteModel, encode, train_step

from prereq.jobs.ray_train import RayTrainFeed
from prereq.selector.feed.evaluation import EvaluationConfig, evaluate_holdout, prepare_holdout


def loop(settings: dict[str, Any]) -> None:
    """What every worker does."""
    torch.manual_seed(0)
    worker = RayTrainFeed(settings["run"])
    feed, world_size = worker.feed, ray.train.get_context().get_world_size()
    plain = ByteModel()
    model = ray.train.torch.prepare_model(plain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    config = EvaluationConfig(tokens_per_skill=2048, window=WINDOW, start_token=SEPARATOR)
    split = prepare_holdout(feed.holdout("control"), feed.skills, encode, config)

    with worker.restored() as folder:
        if folder is not None:
            value = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
            plain.load_state_dict(value["model"])
            optimizer.load_state_dict(value["optimizer"])
    if feed.state_dict()["step"] is None:
        feed.report_initial(**evaluate_holdout(model, split).report())
    elif feed.round_ended:  # the checkpoint was made between the round's last batch and its report
        feed.report(**evaluate_holdout(model, split).report())

    for batch in feed:
        loss = train_step(model, optimizer, batch, world_size)
        if settings["ids"] is not None:
            with open(f"{settings['ids']}-{ray.train.get_context().get_world_rank()}", "a") as file:
                file.writelines(f"{batch.step} {name}\n" for name in batch.ids)
        if feed.round_ended:
            feed.report(**evaluate_holdout(model, split).report(), step=batch.step)
        if batch.last_of_round:
            value = {"model": plain.state_dict(), "optimizer": optimizer.state_dict()}
            worker.save(
                {"round": batch.round, "loss": loss}, lambda folder, v=value: torch.save(v, folder / "model.pt")
            )
        if settings["fail_behind"] == batch.step:
            raise RuntimeError(f"asked to fail behind step {batch.step}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small byte model on a run with Ray Train.")
    parser.add_argument("run", type=Path, help="the run's folder, of a `prereq sample` that runs or has ended")
    parser.add_argument("--storage", type=Path, required=True, help="for Ray Train's checkpoints; every node sees it")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ids", type=Path, help="each worker appends the ids it was given to this name and its rank")
    parser.add_argument("--fail-behind", type=int, help="let every worker fail behind this step")
    args = parser.parse_args()
    if "RAY_ADDRESS" not in os.environ:
        ray.init(address="local", num_cpus=args.workers, include_dashboard=False)
    trainer = ray.train.torch.TorchTrainer(
        loop,
        train_loop_config={
            "run": str(args.run.resolve()),
            "ids": None if args.ids is None else str(args.ids.resolve()),
            "fail_behind": args.fail_behind,
        },
        scaling_config=ray.train.ScalingConfig(num_workers=args.workers, use_gpu=torch.cuda.is_available()),
        run_config=ray.train.RunConfig(name="prereq", storage_path=str(args.storage.resolve())),
    )
    result = trainer.fit()
    print(f"trained to the end: {result.metrics}", flush=True)


if __name__ == "__main__":
    main()
