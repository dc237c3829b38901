"""What lies between samples: cross-validation against leaving each sample out, the fit against the
formula, and what it does to the fit of a picture."""

from jgrid.design import design_matrix
from jgrid.field import HashGridConfig
from jgrid.image.metrics import psnr
from jgrid.image.task import ImageTask
from jgrid.prior import _Fit, believe
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
import pytest
import skimage.data

CELLS = (12, 12)


def wave(x, noise=0.0):
    clean = np.sin(5 * x[:, :1] + 3 * x[:, 1:]) + np.cos(4 * x[:, 1:])
    return clean + noise * np.random.default_rng(1).normal(size=clean.shape)


def scattered(n, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, 2)).astype(np.float32)


def ridge_of(grid, strength):
    levels = grid.index.n_levels
    return strength * np.diag(np.repeat(2.0 ** np.arange(1 - levels, 1), grid.index.size))


@pytest.mark.parametrize("strength", [0.03, 1.0])
def test_fit_and_cross_validation(strength):
    x = scattered(200)
    y = wave(x, 0.1)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(200, 1))
    fit = _Fit(x, np.concatenate([y, signs], axis=1).astype(np.float32), CELLS)
    found = fit.solve(strength)
    phi = design_matrix(fit.grid, x)[0].toarray()
    ridge = ridge_of(fit.grid, strength)
    hat = phi @ np.linalg.solve(phi.T @ phi + ridge, phi.T)
    np.testing.assert_allclose(fit.grid(jt.array(x)).numpy()[:, :1], hat @ y, atol=1e-2)
    left = (signs * (signs - hat @ signs)).mean()
    assert found == pytest.approx(((y - hat @ y) ** 2).mean() / left**2, rel=0.02)


def test_cross_validation_is_leaving_each_out():
    x = scattered(200)
    y = wave(x, 0.3)
    fit = _Fit(x, np.concatenate([y, y], axis=1).astype(np.float32), CELLS)
    phi = design_matrix(fit.grid, x)[0].toarray()
    by_gcv = []
    by_leaving_out = []
    for strength in 10.0 ** np.arange(-2, 3):
        ridge = ridge_of(fit.grid, strength)
        hat = phi @ np.linalg.solve(phi.T @ phi + ridge, phi.T)
        by_gcv.append(((y - hat @ y) ** 2).mean() / (1 - np.trace(hat) / 200) ** 2)
        missed = []
        for n in range(200):
            others = np.delete(np.arange(200), n)
            w = np.linalg.solve(phi[others].T @ phi[others] + ridge, phi[others].T @ y[others])
            missed.append(float(((phi[n] @ w - y[n]) ** 2)[0]))
        by_leaving_out.append(np.mean(missed))
    np.testing.assert_allclose(by_gcv, by_leaving_out, rtol=0.25)
    assert np.argmin(by_gcv) == np.argmin(by_leaving_out) == 2
    chosen = believe(x, y, x[:1], CELLS).strength
    assert abs(np.log10(chosen) - 0) <= 1


def test_noise_is_smoothed_and_the_error_foretold():
    x = scattered(2000)
    between = scattered(1000, seed=1)
    clean, noisy = (believe(x, wave(x, noise), between, (48, 48)) for noise in (0.0, 0.3))
    assert noisy.strength > 10 * clean.strength
    errors = [((belief.values - wave(between)) ** 2).mean() for belief in (clean, noisy)]
    assert errors[0] < 2e-4
    assert errors[1] < 0.1 * 0.3**2
    # at a new sample its own noise counts too
    assert errors[1] + 0.3**2 == pytest.approx(noisy.error, rel=0.1)


def test_strength_is_nearly_the_best_of_a_row():
    x = scattered(3000)
    y = wave(x, 0.2)
    between = scattered(1000, seed=1)
    belief = believe(x, y, between, (48, 48))
    fit = _Fit(x, np.concatenate([y, y], axis=1).astype(np.float32), (48, 48))
    errors = []
    for strength in 10.0 ** np.arange(-3, 2):
        fit.solve(strength)
        values = fit.grid(jt.array(between)).numpy()[:, :1]
        errors.append(((values - wave(between)) ** 2).mean())
    chosen = ((belief.values - wave(between)) ** 2).mean()
    assert chosen < 1.05 * min(errors)
    assert chosen < 0.5 * max(errors)


def test_constant_samples_and_too_few():
    x = scattered(50)
    same = believe(x, np.full((50, 3), 0.25), x[:5], CELLS)
    np.testing.assert_allclose(same.values, 0.25, atol=1e-6)
    assert same.error == pytest.approx(0)
    with pytest.raises(ValueError, match="at least 2"):
        believe(x[:1], np.ones((1, 3)), x, CELLS)


def test_pictures():
    pixels = skimage.data.astronaut()[100:164, 180:260] / 255
    whole = ImageTask(pixels)
    before = whole.samples()
    assert whole.believe() is None
    for a, b in zip(before, whole.samples()):
        np.testing.assert_array_equal(a, b)
    config = HashGridConfig(levels=3, coarsest=8, finest=64, table_size=2000)
    found = {}
    for prior in (False, True):
        task = ImageTask(pixels, held_out=0.5)
        seen, held_out = task.split
        if prior:
            belief = task.believe()
            x, colours = task.samples()
            assert len(x) == pixels.shape[0] * pixels.shape[1]
            truth = pixels.reshape(-1, 3).astype(np.float32)
            np.testing.assert_array_equal(colours[seen], truth[seen])
            np.testing.assert_array_equal(colours[held_out], belief.values.clip(0, 1))
            expected = psnr(truth[held_out], colours[held_out])
            assert abs(expected + 10 * np.log10(belief.error)) < 1.5
        jt.set_global_seed(0)
        training = TrainConfig(steps=200, batch=2048, eval_every=200)
        found[prior] = Trainer(task, task.build(config), training, progress=False).fit()
    assert found[True]["psnr_held_out"] > found[False]["psnr_held_out"] + 1
