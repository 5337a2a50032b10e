"""K-FAC: the factored solve against the dense one, and its limits."""

import numpy as np
import pytest
import torch
from torch import nn

from prereq.jobs.train.gradients import dot, group_gradient
from prereq.jobs.train.kronecker import KroneckerFactors, damped, kronecker_factors, preconditioned
from prereq.jobs.train.model import ByteTransformer
from prereq.jobs.train.windows import VOCABULARY, Windows, training_windows


class OneLayer(nn.Module):
    """Embedding and a linear layer to the logits: its curvature is exactly the product of two factors per token."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.out = nn.Linear(width, VOCABULARY, bias=False)
        with torch.no_grad():
            for weight in self.parameters():
                weight.normal_(generator=generator)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.embedding(tokens))


def test_the_solve_is_that_of_the_dense_kronecker_product():
    generator = torch.Generator().manual_seed(0)
    roots = [torch.randn(n, n, dtype=torch.float64, generator=generator) for n in (3, 4)]
    outputs, inputs = (root @ root.T + torch.eye(len(root), dtype=torch.float64) for root in roots)
    gradient = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    found = KroneckerFactors(outputs=outputs, inputs=inputs).solve(gradient)
    dense = np.linalg.solve(np.kron(outputs.numpy(), inputs.numpy()), gradient.numpy().reshape(-1))
    np.testing.assert_allclose(found.numpy().reshape(-1), dense, atol=1e-8)


def test_factors_are_the_mean_products_of_inputs_and_of_gradients_at_the_outputs():
    model, windows = OneLayer(), training_windows(["abc", "bcd"], 16)  # 9 targets, the rest padding
    factors = kronecker_factors(model, windows, 9, 1e-30)["out.weight"]
    tokens, targets = windows.inputs[0, :8], windows.targets[0, :8]
    entered = model.embedding(torch.from_numpy(tokens)).detach().double()
    left = torch.softmax(model.out(entered.float()).detach().double(), dim=-1)
    left[torch.arange(8), torch.from_numpy(targets)] -= 1.0
    assert (windows.targets[0] >= 0).sum() == 8
    torch.testing.assert_close(factors.inputs, entered.T @ entered / 8)
    torch.testing.assert_close(factors.outputs, left.T @ left / 8, atol=1e-6, rtol=1e-5)


def test_much_damping_leaves_the_inner_product_of_gradients():
    model, windows = OneLayer(), training_windows(["abc abc", "xyz"], 16)
    one, other = (group_gradient(model, training_windows([text], 16), 1).mean for text in ("abc", "cab"))
    factors = kronecker_factors(model, windows, 4, 1e16)
    plain = dot({"out.weight": one["out.weight"]}, other)
    scale = float(factors["out.weight"].outputs[0, 0] * factors["out.weight"].inputs[0, 0])
    assert dot(preconditioned(one, factors), other) * scale == pytest.approx(plain, rel=1e-4)


def test_damping_is_relative_to_each_side():
    one = damped(torch.eye(2) * 4.0, torch.eye(3) * 0.01, 0.25)
    torch.testing.assert_close(one.outputs, torch.eye(2, dtype=torch.float64) * 6.0)
    torch.testing.assert_close(one.inputs, torch.eye(3, dtype=torch.float64) * 0.015)
    assert damped(torch.zeros(2, 2), torch.zeros(2, 2), 0.25).outputs[0, 0] == 0.5, "an unused layer can be solved"


def test_a_text_influences_itself_more_than_one_of_other_bytes():
    model, windows = OneLayer(), training_windows(["abababab", "xyxyxyxy"], 16)
    factors = kronecker_factors(model, windows, 4, 0.1)
    ab, xy = (group_gradient(model, Windows(w[None], t[None]), 1).mean for w, t in zip(*windows, strict=True))
    wanted = preconditioned(ab, factors)
    assert dot(wanted, ab) > 1.2 * abs(dot(wanted, xy))


def test_curvature_is_that_of_every_attention_and_feed_forward_layer(tiny):
    model = ByteTransformer(tiny)
    factors = kronecker_factors(model, training_windows(["abc abc"], 16), 1, 0.1)
    layers = [f"blocks.{n}.{part}.weight" for n in range(tiny.layers) for part in ("qkv", "mix", "up", "down")]
    assert sorted(factors) == sorted(layers)
    for name, weight in model.named_parameters():
        if name in factors:
            assert (len(factors[name].outputs), len(factors[name].inputs)) == tuple(weight.shape)


def test_a_samples_influence_is_the_mean_of_its_documents_influences():
    """So what is measured on a sample of a cluster estimates the cluster's mean, the better the larger the sample."""
    model, windows = OneLayer(), training_windows(["abababab", "xyxyxyxy", "abxyabxy", "zzzzzzzz"], 16)
    factors = kronecker_factors(model, windows, 4, 0.1)
    each = [group_gradient(model, Windows(w[None], t[None]), 1).mean for w, t in zip(*windows, strict=True)]
    wanted = preconditioned(each[0], factors)
    together = dot(wanted, group_gradient(model, windows, 4).mean)
    assert together == pytest.approx(np.mean([dot(wanted, one) for one in each]), rel=1e-4)
