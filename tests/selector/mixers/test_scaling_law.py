"""Fits of power laws."""

import numpy as np

from prereq.selector.mixers.scaling_law import fit_scaling_laws

TOKENS = np.array([1e6, 2e6, 4e6, 7e6, 1.1e7, 2e7, 3e7])


def law(tokens, irreducible, scale, exponent):
    return irreducible + scale * (tokens[:, None] / 1e6) ** -np.asarray(exponent)


def test_laws_without_noise_are_recovered():
    irreducible, scale, exponent = np.array([1.5, 0.0, 2.0]), np.array([2.0, 3.0, 0.4]), np.array([0.3, 0.1, 1.2])
    losses = law(TOKENS, irreducible, scale, exponent)
    laws = fit_scaling_laws(TOKENS, losses, np.ones_like(losses, dtype=bool))
    np.testing.assert_allclose(laws.exponent, exponent, rtol=1e-5)
    np.testing.assert_allclose(laws.irreducible, irreducible, atol=1e-5)
    np.testing.assert_allclose(laws.loss(5e7), law(np.array([5e7]), irreducible, scale, exponent)[0], rtol=1e-6)
    assert laws.fitted.all()


def test_the_speed_is_the_derivative_of_the_law():
    losses = law(TOKENS, [1.5], [2.0], [0.3])
    laws = fit_scaling_laws(TOKENS, losses, np.ones_like(losses, dtype=bool))
    step = 10.0
    difference = (laws.loss(3e7 - step) - laws.loss(3e7 + step)) / (2 * step)
    np.testing.assert_allclose(laws.speed(3e7), difference, rtol=1e-5)


def test_what_was_not_measured_does_not_count():
    losses = law(TOKENS, [1.5, 1.5], [2.0, 2.0], [0.3, 0.3])
    measured = np.ones_like(losses, dtype=bool)
    losses[2, 1], measured[2, 1] = 0.0, False
    laws = fit_scaling_laws(TOKENS, losses, measured)
    np.testing.assert_allclose(laws.loss(5e7)[0], laws.loss(5e7)[1], rtol=1e-7)
    measured[2:, 1] = False
    assert fit_scaling_laws(TOKENS, losses, measured).fitted.tolist() == [True, False]


def test_flat_and_rising_losses_have_no_speed_and_no_negative_numbers():
    losses = np.stack([np.full(7, 2.0), np.linspace(2.0, 3.0, 7), np.linspace(3.0, 2.0, 7)], axis=1)
    laws = fit_scaling_laws(TOKENS, losses, np.ones_like(losses, dtype=bool))
    np.testing.assert_allclose(laws.speed(3e7)[:2], 0.0, atol=1e-15)
    assert laws.speed(3e7)[2] > 0
    assert min(laws.irreducible.min(), laws.scale.min()) >= 0.0


def test_noise_moves_a_fit_only_a_little_and_the_same_numbers_give_the_same_bits():
    rng = np.random.default_rng(0)
    tokens = np.linspace(1e6, 4e7, 40)
    losses = law(tokens, [1.5], [2.0], [0.3]) * (1 + 0.002 * rng.standard_normal((40, 1)))
    one, two = (fit_scaling_laws(tokens, losses, np.ones_like(losses, dtype=bool)) for _ in range(2))
    np.testing.assert_allclose(one.loss(4e7), law(np.array([4e7]), [1.5], [2.0], [0.3])[0], rtol=0.005)
    assert one.exponent.tobytes() == two.exponent.tobytes()
