"""A step of many small SIRENs at once, 2-16-16-1 on 10 x 10 pixels with Adam: jgrid's fused op, its
plain twin and PyTorch."""

from benchmarks import problem, race, suite

import numpy as np

OMEGA = 30.0
LR = 1e-2


def start(fields):
    """Points (100, 2), random targets (F, 100, 1) and the weights at the start, the same for
    all."""
    rng = np.random.default_rng(0)
    line = np.linspace(-1, 1, 10, dtype=np.float32)
    x = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    parameters = []
    for a, b in ((2, 16), (16, 16), (16, 1)):
        bound = np.sqrt(6 / a) / OMEGA
        parameters += [
            rng.uniform(-bound, bound, (fields, b, a)).astype(np.float32),
            np.zeros((fields, b), np.float32),
        ]
    return x, rng.uniform(-0.5, 0.5, (fields, len(x), 1)).astype(np.float32), parameters


def jgrid_step(fields, plain=False):
    """A step of jgrid's zoo."""
    from jgrid.ops.siren import fused_siren_errors, siren_errors

    import jittor as jt

    x, target, parameters = start(fields)
    x = jt.array(x).stop_grad()
    target = jt.array(target).stop_grad()
    parameters = [jt.array(p) for p in parameters]
    adam = jt.optim.Adam(parameters, lr=LR, betas=problem.BETAS, eps=problem.EPS)

    def update():
        loss = (siren_errors if plain else fused_siren_errors)(x, target, OMEGA, *parameters).sum()
        adam.step(loss)
        return loss

    def run(steps):
        for _ in range(steps):
            update()
        jt.sync_all(True)

    losses = [update().item() for _ in range(problem.CHECK_STEPS)]
    return {"zoo": run}, {"losses": losses}


def torch_step(fields):
    """The same with PyTorch's batched matrix products."""
    import torch

    torch.set_num_threads(race.THREADS)
    x, target, parameters = start(fields)
    x = torch.tensor(x)
    target = torch.tensor(target)
    parameters = [torch.tensor(p, requires_grad=True) for p in parameters]
    adam = torch.optim.Adam(parameters, lr=LR, betas=problem.BETAS, eps=problem.EPS, fused=True)

    def update():
        z = x.expand(fields, *x.shape)
        for i in range(0, 6, 2):
            z = torch.baddbmm(parameters[i + 1][:, None], z, parameters[i].transpose(1, 2))
            z = torch.sin(OMEGA * z) if i < 4 else z
        loss = ((z - target) ** 2).mean((1, 2)).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item()

    def run(steps):
        for _ in range(steps):
            update()

    losses = [update() for _ in range(problem.CHECK_STEPS)]
    return {"zoo": run}, {"losses": losses}


def run(quick):
    """Milliseconds of a step of 1,000 fields."""
    options = {"fields": 20 if quick else 1000}
    entrants = {
        "jgrid": ("zoo", "jgrid_step", options),
        "jgrid plain": ("zoo", "jgrid_step", {**options, "plain": True}),
        "torch eager": ("zoo", "torch_step", options),
    }
    return suite.compare(
        entrants, quick, {"torch_eager": "torch eager", "jgrid_plain": "jgrid plain"}
    )
