"""Loss per skill of models whose loss is known, budgets, ranks."""

import math
import multiprocessing
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from prereq.graph.errors import ConfigError
from prereq.selector.feed import HoldoutDocument
from prereq.selector.feed.evaluation import EvaluationConfig, SkillLosses, evaluate_holdout, prepare_holdout

VOCABULARY = 257
START = 256
DOCUMENTS = [
    HoldoutDocument("1", "abab", ("letters",)),
    HoldoutDocument("2", "1 2 3 4 5", ("digits", "spaces")),
    HoldoutDocument("3", "aab", ("letters", "letters")),
    HoldoutDocument("4", "x" * 40, ("letters", "unheard")),
    HoldoutDocument("5", "nothing", ()),
]
SKILLS = ["letters", "digits", "spaces", "absent"]


def encode(text: str) -> list[int]:
    return list(text.encode())


class Bigram(nn.Module):
    """Logits of the next token from this one: its loss can be summed by hand."""

    def __init__(self, wrap: bool = False) -> None:
        super().__init__()
        table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(5))
        self.table, self.drop, self.wrap = nn.Parameter(table), nn.Dropout(0.5), wrap

    def forward(self, ids: torch.Tensor) -> Any:
        logits = self.drop(self.table[ids])
        return SimpleNamespace(logits=logits) if self.wrap else logits


def by_hand(model: Bigram, text: str, start: int | None) -> tuple[float, int]:
    ids = ([] if start is None else [start]) + encode(text)
    logs = torch.log_softmax(model.table.detach().double(), dim=-1)
    return -sum(float(logs[a, b]) for a, b in pairwise(ids)), len(ids) - 1


def measure(config: EvaluationConfig, model: nn.Module | None = None) -> SkillLosses:
    return evaluate_holdout(model or Bigram(), prepare_holdout(DOCUMENTS, SKILLS, encode, config))


@pytest.mark.parametrize("start", [None, START])
@pytest.mark.parametrize(("window", "at_a_time"), [(3, 1), (8, 2), (1000, 100)])
def test_losses_are_sums_over_documents_however_they_are_cut(start: int | None, window: int, at_a_time: int) -> None:
    config = EvaluationConfig(tokens_per_skill=None, window=window, windows_at_a_time=at_a_time, start_token=start)
    found, model = measure(config), Bigram()
    for skill, members in {"letters": (0, 2, 3), "digits": (1,), "spaces": (1,)}.items():
        sums = [by_hand(model, DOCUMENTS[d].text, start) for d in members]
        nll, tokens = sum(s[0] for s in sums), sum(s[1] for s in sums)
        assert found.eval_tokens[skill] == tokens
        assert found.losses[skill] == pytest.approx(nll / tokens, abs=2e-6)
    assert found.losses["absent"] is None
    assert found.eval_tokens["absent"] == 0
    assert "unheard" not in found.losses


def test_a_uniform_model_has_the_logarithm_of_its_vocabulary() -> None:
    model = Bigram()
    nn.init.zeros_(model.table)
    found = measure(EvaluationConfig(), model)
    assert found.losses["digits"] == round(math.log(VOCABULARY), 6)
    assert found.standard_errors["letters"] == 0.0
    assert found.standard_errors["digits"] is None, "one document tells nothing of the spread"


def test_the_standard_error_is_that_of_a_ratio_of_sums() -> None:
    found, model = measure(EvaluationConfig(tokens_per_skill=None)), Bigram()
    sums = [by_hand(model, DOCUMENTS[d].text, None) for d in (0, 2, 3)]
    tokens = sum(t for _, t in sums)
    loss = sum(n for n, _ in sums) / tokens
    expected = math.sqrt(3 / 2 * sum((n - loss * t) ** 2 for n, t in sums)) / tokens
    assert found.standard_errors["letters"] == pytest.approx(expected, abs=2e-6)


def test_a_budget_takes_documents_in_order_and_cuts_the_last() -> None:
    found = measure(EvaluationConfig(tokens_per_skill=6, start_token=START))
    assert found.eval_tokens == {"letters": 6, "digits": 6, "spaces": 6, "absent": 0}
    model = Bigram()
    first, second = by_hand(model, "abab", START), by_hand(model, "aa", START)
    assert found.losses["letters"] == pytest.approx((first[0] + second[0]) / 6, abs=2e-6)


def test_a_models_modes_and_gradients_are_left_as_they_were() -> None:
    model = nn.Sequential(Bigram(wrap=True))
    model.train()
    model[0].drop.eval()
    found = measure(EvaluationConfig(), model)
    assert found == measure(EvaluationConfig())
    assert (model.training, model[0].training, model[0].drop.training) == (True, True, False)
    assert model[0].table.grad is None


def test_modes_come_back_after_an_error() -> None:
    class Broken(Bigram):
        def forward(self, ids: torch.Tensor) -> Any:
            raise RuntimeError("broken")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        measure(EvaluationConfig(), model)
    assert model.training


def test_an_empty_split_measures_nothing() -> None:
    split = prepare_holdout([], SKILLS, encode, EvaluationConfig())
    assert evaluate_holdout(Bigram(), split).report() == {
        "losses": dict.fromkeys(SKILLS),
        "eval_tokens": dict.fromkeys(SKILLS, 0),
    }


@pytest.mark.parametrize("name", ["tokens_per_skill", "window", "windows_at_a_time"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be 1 or more, got 0"):
        EvaluationConfig(**{name: 0})


def _rank(rank: int, world: int, folder: str, config: EvaluationConfig, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    model = nn.parallel.DistributedDataParallel(Bigram())
    results.put(measure(config, model))
    dist.barrier()
    time.sleep(1.0)  # gloo's threads free their last tensors under the interpreter's lock, which the exit holds
    dist.destroy_process_group()


@pytest.mark.slow
def test_every_rank_gets_what_one_process_gets(tmp_path: Path) -> None:
    """Three ranks and four calls of the model: one rank's last call is for the others' sake."""
    config = EvaluationConfig(tokens_per_skill=None, window=8, windows_at_a_time=2)
    assert len(prepare_holdout(DOCUMENTS, SKILLS, encode, config).windows) == 8
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    ranks = [context.Process(target=_rank, args=(r, 3, str(tmp_path), config, results)) for r in range(3)]
    for process in ranks:
        process.start()
    found = [results.get(timeout=120) for _ in ranks]
    for process in ranks:
        process.join(timeout=60)
    assert [process.exitcode for process in ranks] == [0, 0, 0]
    assert found == [measure(config)] * 3
