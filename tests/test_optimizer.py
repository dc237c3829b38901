"""Adam: the formula, the fused op against its plain twin, rows that a batch does not touch."""

from jgrid.optimizer import Adam

import jittor as jt
import numpy as np
import pytest


def numpy_adam(p, gradients, rate, betas=(0.9, 0.95), eps=1e-15, lazy=False):
    """The formula, number by number, in float64."""
    p, m, v = p.astype(np.float64).copy(), np.zeros(p.shape), np.zeros(p.shape)
    for n, g in enumerate(gradients, start=1):
        correction = np.sqrt(1 - betas[1] ** n) / (1 - betas[0] ** n)
        for row in np.ndindex(p.shape[:-1]):
            if lazy and not g[row].any():
                continue
            for c in range(p.shape[-1]):
                i = (*row, c)
                m[i] = betas[0] * m[i] + (1 - betas[0]) * g[i]
                v[i] = betas[1] * v[i] + (1 - betas[1]) * g[i] ** 2
                p[i] -= rate * correction * m[i] / (np.sqrt(v[i]) + eps)
    return p


def sparse_gradients(shape, steps=6):
    random = np.random.default_rng(0)
    return [
        (random.normal(size=shape) * (random.uniform(size=(*shape[:-1], 1)) < 0.5)).astype(
            np.float32
        )
        for _ in range(steps)
    ]


# more and fewer rows than a block of the fused op has, and a last block that is not full
@pytest.mark.parametrize("shape", [(37, 4), (3, 5), (130, 1), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_follows_the_formula(fused, lazy, shape):
    start = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    gradients = sparse_gradients(shape)
    p = jt.array(start)
    optimizer = Adam([{"params": [p], "lr": 0.2, "lazy": lazy}], fused=fused)
    for g in gradients:
        optimizer.step((p * jt.array(g)).sum(), factor=0.5)
    np.testing.assert_allclose(
        p.numpy(), numpy_adam(start, gradients, 0.1, lazy=lazy), rtol=1e-5, atol=1e-6
    )
    # lazy or not, it shows
    assert np.abs(numpy_adam(start, gradients, 0.1, lazy=not lazy) - p.numpy()).max() > 1e-3


@pytest.mark.parametrize("fused", [False, True])
def test_groups_have_rates_of_their_own_and_parameters_stay_parameters(fused):
    fast = jt.array(np.ones(5, np.float32))
    slow = jt.array(np.ones(3, np.float32))
    optimizer = Adam(
        [{"params": [fast], "lr": 0.1}, {"params": [slow], "lr": 0.01}],
        betas=(0.5, 0.8),
        eps=0.1,
        fused=fused,
    )
    for _ in range(4):
        optimizer.step((fast * fast).sum() + (slow * slow).sum() * fast.sum())
    assert not fast.is_stop_grad() and not slow.is_stop_grad()
    f = 1.0
    s = 1.0
    m = np.zeros(2)
    v = np.zeros(2)
    for n in range(1, 5):
        g = np.array([2 * f + 3 * s * s, 2 * s * 5 * f])
        m = 0.5 * m + 0.5 * g
        v = 0.8 * v + 0.2 * g**2
        f, s = np.array([f, s]) - np.array([0.1, 0.01]) * np.sqrt(1 - 0.8**n) / (1 - 0.5**n) * m / (
            np.sqrt(v) + 0.1
        )
    np.testing.assert_allclose(fast.numpy(), np.full(5, f), rtol=1e-5)
    np.testing.assert_allclose(slow.numpy(), np.full(3, s), rtol=1e-5)


def test_the_loss_of_a_step_is_that_of_its_start():
    """Parameters change in place: a loss that nobody has asked for yet must not see them
    changed."""
    p = jt.array(np.full(1000, 3.0, np.float32))
    optimizer = Adam([{"params": [p], "lr": 1.0}])
    losses = []
    for _ in range(3):
        losses.append((p * p).mean())
        optimizer.step(losses[-1])
    np.testing.assert_allclose(
        [loss.item() for loss in losses], [9.0, 4.0, (2 - 0.9736) ** 2], rtol=2e-2
    )


def test_clipping_scales_all_gradients_together():
    a = jt.array(np.zeros(1, np.float32))
    b = jt.array(np.zeros(1, np.float32))
    optimizer = Adam([{"params": [a, b], "lr": 0.1}], eps=1.0, clip=1.0)
    optimizer.step((3.0 * a + 4.0 * b).sum())
    # with eps = 1 the step is rate * correction * (1 - beta_1) g / (root |g| + 1), for the clipped
    # g = (0.6, 0.8)
    g = np.array([0.6, 0.8])
    root = np.sqrt(1 - optimizer.betas[1])
    np.testing.assert_allclose(
        [a.item(), b.item()], -0.1 * root / 0.1 * 0.1 * g / (root * g + 1.0), rtol=1e-5
    )


def test_weight_decay_adds_to_its_groups_gradients_before_they_are_clipped():
    a = jt.array(np.float32([2.0]))
    b = jt.array(np.float32([2.0]))
    optimizer = Adam(
        [{"params": [a], "lr": 0.1, "weight_decay": 0.5}, {"params": [b], "lr": 0.1}],
        eps=1.0,
        clip=1.0,
    )
    optimizer.step((3.0 * a + 3.0 * b).sum())
    g = np.array([4.0, 3.0]) / 5
    root = np.sqrt(1 - optimizer.betas[1])
    np.testing.assert_allclose(
        np.array([a.item(), b.item()]) - 2,
        -0.1 * root / 0.1 * 0.1 * g / (root * g + 1.0),
        rtol=1e-5,
    )


def test_a_group_has_nothing_that_nobody_reads():
    with pytest.raises(ValueError, match="not momentum"):
        Adam([{"params": [jt.ones(1)], "lr": 0.1, "momentum": 0.9}])


def test_steps_leave_nothing_behind():
    p = jt.array(np.ones((50, 4), np.float32))
    optimizer = Adam([{"params": [p], "lr": 0.1, "lazy": True}])
    live = []
    for _ in range(30):
        optimizer.step((p * p).sum())
        live.append(jt.liveness_info()["lived_vars"])
    assert live[-1] <= live[2], live
