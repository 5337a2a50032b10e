"""`RUN/train/log.jsonl`: what the trainer did, line by line, for people and plots; nothing reads it back to train."""

import json
import math
import os
from typing import Any

from prereq.selector.storage import Folder

NAME = "train/log.jsonl"


class TrainingLog:
    """Appends lines; cuts off what a killed trainer wrote past its checkpoint, so that every step has one line.

    On an object store, where nothing can be appended to, the lines since the start are kept, and the whole log is
    written again with each evaluation.
    """

    def __init__(self, run: Folder) -> None:
        self._run = run
        self._path = run.path(NAME)
        self._lines = ""  # of the whole log; only kept for a store

    def keep_through(self, step: int) -> None:
        """Drop lines of steps after `step`; -1 drops everything."""
        try:
            lines = self._run.read(NAME).decode(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        kept = [line for line in lines if _belongs(line, step)]
        self._lines = "".join(f"{line}\n" for line in kept)
        self._run.replace(NAME, self._lines.encode())

    def batch(self, number: int, step: int, loss: float, tokens_per_s: float, waited_s: float, updates: int) -> None:
        """A global batch was trained on: loss in nats per token, seconds waited since the trainer's start."""
        self._append(
            {
                "round": number,
                "step": step,
                "loss": round(loss, 6),
                "tokens_per_s": round(tokens_per_s),
                "waited_s": round(waited_s, 3),
                "updates": updates,
            }
        )

    def evaluation(self, number: int | str, step: int | None, loss: float) -> None:
        """The control split was evaluated: mean loss over skills, nats per token."""
        self._append({"round": number, "step": step, "control_loss": None if math.isnan(loss) else round(loss, 6)})
        if not self._run.is_local:
            self._run.replace(NAME, self._lines.encode())

    def _append(self, value: dict[str, Any]) -> None:
        if not self._run.is_local:
            self._lines += json.dumps(value) + "\n"
            return
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")


def _belongs(line: str, step: int) -> bool:
    try:
        value = json.loads(line)
    except ValueError:
        return False  # torn by a kill
    if not isinstance(value, dict):
        return False
    # the untrained model's evaluation has no step: it belongs to everything but a fresh start
    return step >= 0 if value.get("step") is None else value["step"] <= step
