"""Losses per skill against a slow reference, budgets, and what a loss counts."""

import math
from typing import Any

import pytest
import torch

from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.evaluate import evaluate, prepare
from prereq.jobs.train.model import ByteTransformer
from prereq.selector.feed import HoldoutDocument

CONFIG = TrainConfig(layers=1, width=16, heads=2, seq_len=8, threads=1)
DOCUMENTS = [
    HoldoutDocument("a", "one two three", ("x",)),
    HoldoutDocument("b", "été", ("x", "y")),
    HoldoutDocument("c", "", ("y",)),
    HoldoutDocument("d", "abcdefgh", ("y",)),
]


def random_model(seed: int = 0) -> ByteTransformer:
    model = ByteTransformer(CONFIG)
    torch.nn.init.normal_(model.head.weight, std=0.5, generator=torch.Generator().manual_seed(seed))
    return model


def slow_nll(model: ByteTransformer, text: str) -> float:
    """Window by window, token by token, no batching and no padding."""
    tokens = list(text.encode())
    before = [256, *tokens][: len(tokens)]
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(tokens), CONFIG.seq_len):
            logits = model(torch.tensor([before[start : start + CONFIG.seq_len]]))[0].double()
            aims = tokens[start : start + CONFIG.seq_len]
            total -= sum(float(torch.log_softmax(logits[i], 0)[aim]) for i, aim in enumerate(aims))
    return total


@pytest.mark.parametrize("windows_at_a_time", [1, 2, 100])
def test_losses_are_nll_over_tokens_of_all_documents_of_the_skill(windows_at_a_time: int) -> None:
    model = random_model()
    result = evaluate(model, prepare(DOCUMENTS, ["x", "y", "z"], CONFIG.seq_len, None), windows_at_a_time)
    nll = {d.id: slow_nll(model, d.text) for d in DOCUMENTS}
    assert result.eval_tokens == {"x": 13 + 5, "y": 5 + 8, "z": 0}
    assert result.losses["x"] == pytest.approx((nll["a"] + nll["b"]) / 18, abs=2e-6)
    assert result.losses["y"] == pytest.approx((nll["b"] + nll["d"]) / 13, abs=2e-6)
    assert result.losses["z"] is None
    assert result.mean == pytest.approx(((nll["a"] + nll["b"]) / 18 + (nll["b"] + nll["d"]) / 13) / 2, abs=2e-6)


def test_losses_have_six_digits() -> None:
    result = evaluate(random_model(), prepare(DOCUMENTS, ["x"], CONFIG.seq_len, None), 4)
    assert all(loss == round(loss, 6) for loss in result.losses.values() if loss is not None)


def test_an_untrained_model_knows_nothing() -> None:
    result = evaluate(ByteTransformer(CONFIG), prepare(DOCUMENTS, ["x", "y"], CONFIG.seq_len, None), 4)
    assert result.losses == {"x": round(math.log(257), 6), "y": round(math.log(257), 6)}


def test_the_budget_takes_documents_in_order_until_each_skill_has_enough() -> None:
    documents = [HoldoutDocument(f"x{i}", "0123456789", ("x",)) for i in range(5)]
    documents += [HoldoutDocument("both", "0123456789", ("x", "y"))]
    split = prepare(documents, ["x", "y"], CONFIG.seq_len, 25)
    assert split.tokens == (10, 10, 10, 10)
    result = evaluate(random_model(), split, 4)
    assert result.eval_tokens == {"x": 40, "y": 10}  # `both` was taken for y, and counts for x as well


def test_a_document_longer_than_the_budget_is_cut_there() -> None:
    split = prepare([HoldoutDocument("long", "a" * 1000, ("x",))], ["x"], CONFIG.seq_len, 50)
    assert split.tokens == (50,)


def test_a_skill_named_twice_counts_a_document_once() -> None:
    split = prepare([HoldoutDocument("a", "abc", ("x", "x"))], ["x"], CONFIG.seq_len, None)
    assert evaluate(random_model(), split, 4).eval_tokens == {"x": 3}


@pytest.mark.parametrize("documents", [[], [HoldoutDocument("a", "abc", ())], [HoldoutDocument("a", "", ("x",))]])
def test_a_split_without_tokens_measures_nothing(documents: list[Any]) -> None:
    split = prepare(documents, ["x"], CONFIG.seq_len, None)
    assert not split.measures
    result = evaluate(random_model(), split, 4)
    assert (result.losses, result.eval_tokens) == ({"x": None}, {"x": 0})
    assert math.isnan(result.mean)
