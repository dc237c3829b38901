"""The hash grid and its MLP in JAX, the whole step in one jit."""

from functools import partial

from benchmarks import problem

import jax
import jax.numpy as jnp
import numpy as np


def model(parameters, layout, x):
    table, *network = parameters
    # (N, L, 2)
    scaled = x[:, None, :] * layout.cells[:, None].astype(np.float32)
    cell = jnp.minimum(scaled.astype(jnp.int32), layout.cells[:, None] - 1)
    fraction = scaled - cell
    # (N, L, axis, bit)
    corner = jnp.stack([cell, cell + 1], -1)
    a = corner[:, :, 0, None, :]
    b = corner[:, :, 1, :, None]
    n = layout.n_dense
    stride = (layout.cells + 1)[:n, None, None]
    hashed = (
        a[:, n:].astype(jnp.uint32) ^ (b[:, n:].astype(jnp.uint32) * np.uint32(2654435761))
    ) & np.uint32(layout.mask)
    node = (
        jnp.concatenate([a[:, :n] + b[:, :n] * stride, hashed.astype(jnp.int32)], 1)
        + layout.first[:, None, None]
    )
    weight = jnp.stack([1 - fraction, fraction], -1)
    # (N, L, 2, 2)
    window = weight[:, :, 1, :, None] * weight[:, :, 0, None, :]
    z = (table[node] * window[..., None]).sum((2, 3)).reshape(len(x), -1)
    for i in range(0, len(network), 2):
        z = z @ network[i].T + network[i + 1]
        z = jax.nn.relu(z) if i + 2 < len(network) else z
    return z


def step(field, batch):
    """One training step on random pixels."""
    layout = problem.Layout(field)
    rates = [field["lr_features"]] + [field["lr_network"]] * 6
    x, colour = map(jnp.asarray, problem.picture())

    def loss_of(parameters, x, colour):
        return ((model(parameters, layout, x) - colour) ** 2).mean()

    def update(state, x, colour):
        parameters, first, second, t = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, colour)
        b1, b2 = problem.BETAS
        t = t + 1
        first = [b1 * m + (1 - b1) * g for m, g in zip(first, gradients)]
        second = [b2 * v + (1 - b2) * g * g for v, g in zip(second, gradients)]
        scale = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        parameters = [
            p - rate * scale * m / (jnp.sqrt(v) + problem.EPS)
            for p, m, v, rate in zip(parameters, first, second, rates)
        ]
        return (parameters, first, second, t), loss

    @partial(jax.jit, donate_argnums=(0, 1))
    def random_step(state, key):
        key, mine = jax.random.split(key)
        chosen = jax.random.randint(mine, (batch,), 0, len(x))
        return *update(state, x[chosen], colour[chosen]), key

    parameters = list(map(jnp.asarray, problem.parameters(field)))
    state = (
        parameters,
        [jnp.zeros_like(p) for p in parameters],
        [jnp.zeros_like(p) for p in parameters],
        jnp.float32(0),
    )
    losses = []
    for _ in range(problem.CHECK_STEPS):
        state, loss = jax.jit(update)(state, *problem.check_batch())
        losses.append(loss.item())
    key = jax.random.PRNGKey(0)

    def run(steps):
        nonlocal state, key
        for _ in range(steps):
            state, _, key = random_step(state, key)
        jax.block_until_ready(state)

    return {"step": run}, {"losses": losses}
