"""The model: causal, positions by rotation, starts the same for the same seed."""

import math

import torch

from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.model import ByteTransformer, make_optimizer, rotate

CONFIG = TrainConfig(layers=2, width=16, heads=2, seq_len=12, threads=1)


def awake(config: TrainConfig = CONFIG) -> ByteTransformer:
    """A model whose zero weights were filled, so that everything has an effect."""
    model = ByteTransformer(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(0, 0.3, generator=generator)
    return model


def test_later_tokens_do_not_change_earlier_logits() -> None:
    model = awake()
    tokens = torch.randint(0, 257, (1, 12), generator=torch.Generator().manual_seed(2))
    changed = tokens.clone()
    changed[0, 7:] = (changed[0, 7:] + 1) % 257
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_earlier_tokens_and_their_order_change_later_logits() -> None:
    model = awake()
    with torch.no_grad():
        ab, ba = model(torch.tensor([[1, 2, 3]])), model(torch.tensor([[2, 1, 3]]))
    assert not torch.allclose(ab[:, 2], ba[:, 2])


def test_rotation_keeps_norms_and_makes_products_depend_on_distance() -> None:
    generator = torch.Generator().manual_seed(3)
    q, k = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    angles = torch.outer(torch.arange(10.0, dtype=torch.float64), 10_000.0 ** (-torch.arange(4) / 4))
    cos, sin = angles.cos(), angles.sin()
    qs, ks = rotate(q.expand(10, 8), cos, sin), rotate(k.expand(10, 8), cos, sin)
    torch.testing.assert_close(qs.norm(dim=1), q.norm().expand(10))
    products = qs @ ks.T
    for distance in range(-9, 10):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))


def test_the_same_seed_starts_the_same_model_whatever_was_drawn_before() -> None:
    first = ByteTransformer(CONFIG).state_dict()
    torch.rand(5)
    second = ByteTransformer(CONFIG).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = ByteTransformer(TrainConfig(layers=2, width=16, heads=2, seq_len=12, seed=1)).state_dict()
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_the_first_prediction_is_uniform() -> None:
    with torch.no_grad():
        logits = ByteTransformer(CONFIG)(torch.tensor([[0, 255, 256]]))
    assert torch.equal(torch.logsumexp(logits, -1), torch.full((1, 3), math.log(257)))


def test_weight_decay_leaves_norms_alone() -> None:
    model = ByteTransformer(CONFIG)
    groups = make_optimizer(model, CONFIG).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(p.dim() == 1 for p in groups[1]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
