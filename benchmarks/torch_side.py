"""The same models in PyTorch."""

from benchmarks import problem, race

import numpy as np
import torch
from torch.nn import functional


class Model:
    """A grid, hashed with linear interpolation or MulFA, and its MLP; lookup: index_select (the
    fastest), or naive indexing."""

    def __init__(self, field, naive):
        self.layout = problem.Layout(field)
        self.mulfa = field["kind"] == "grid:mulfa"
        self.naive = naive
        self.table, *rest = [torch.tensor(v, requires_grad=True) for v in problem.parameters(field)]
        self.mix, self.network = (rest[0], rest[1:]) if self.mulfa else (None, rest)
        self.cells = torch.tensor(self.layout.cells)
        self.first = torch.tensor(self.layout.first)

    def __call__(self, x):
        # (N, L, 2)
        scaled = x[:, None, :] * self.cells[:, None]
        cell = torch.minimum(scaled.detach().int(), self.cells[:, None] - 1)
        fraction = scaled - cell
        # (N, L, axis, bit)
        corner = torch.stack([cell, cell + 1], -1)
        # (N L 4), axis 0 fastest
        node = self.nodes(corner[:, :, 0], corner[:, :, 1]).reshape(-1)
        values = self.table[node] if self.naive else self.table.index_select(0, node)
        values = values.view(*fraction.shape[:2], 4, -1)
        offset = torch.stack([fraction, fraction - 1], -1)
        weight = torch.stack([1 - fraction, fraction], -1)
        # (N, L, 4)
        window = (weight[:, :, 1, :, None] * weight[:, :, 0, None, :]).flatten(2)
        if self.mulfa:
            angle = torch.stack(
                [
                    offset[:, :, 0, None, :].expand(-1, -1, 2, 2),
                    offset[:, :, 1, :, None].expand(-1, -1, 2, 2),
                ],
                2,
            )
            # (N, L, axis, 4)
            angle = np.pi * angle.flatten(3)
            basis = torch.cat(
                [torch.ones_like(window)[:, :, None], torch.sin(angle), torch.cos(angle)], 2
            )
            z = torch.einsum("nlpc,lkpc->nlkc", (basis * window[:, :, None]) @ values, self.mix)
        else:
            # (N, L, C)
            z = (values * window[..., None]).sum(2)
        z = z.flatten(1)
        for i in range(0, len(self.network), 2):
            z = functional.linear(z, *self.network[i : i + 2])
            z = functional.relu(z) if i + 2 < len(self.network) else z
        return z

    def nodes(self, x, y):
        """Rows of the table for bits along axis 0 and 1, (N, L, 2) each -> (N, L, 2, 2)."""
        n = self.layout.n_dense
        stride = self.cells[:, None] + 1
        dense = x[:, :n, None, :] + (y * stride)[:, :n, :, None]
        if n < len(self.cells):
            # products wrap, as the hash needs
            prime = np.int32(np.uint32(2654435761).astype(np.int32)).item()
            hashed = (x[:, n:, None, :] ^ (y[:, n:] * prime)[..., None]) & self.layout.mask
            dense = torch.cat([dense, hashed], 1)
        return dense + self.first[:, None, None]


def step(field, batch, naive=False, compiled=False):
    """One training step on random pixels."""
    torch.set_num_threads(race.THREADS)
    model = Model(field, naive)
    x, colour = map(torch.tensor, problem.picture())
    groups = [
        {"params": [model.table], "lr": field["lr_features"]},
        {
            "params": [*model.network, *([model.mix] if model.mulfa else [])],
            "lr": field["lr_network"],
        },
    ]
    adam = torch.optim.Adam(groups, betas=problem.BETAS, eps=problem.EPS, fused=True)

    def loss_of(x, colour):
        return ((model(x) - colour) ** 2).mean()

    # one size at a time: a graph for all batch sizes would be slower
    loss_of = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def update(x, colour):
        loss = loss_of(x, colour)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item()

    def run(steps):
        for _ in range(steps):
            chosen = torch.randint(len(x), (batch,))
            update(x[chosen], colour[chosen])

    losses = [update(*map(torch.tensor, problem.check_batch())) for _ in range(problem.CHECK_STEPS)]
    return {"step": run}, {"losses": losses}


def harmonics(d):
    """The 16 real spherical harmonics up to degree 3."""
    x, y, z = d.unbind(1)
    xx = x * x
    yy = y * y
    zz = z * z
    return torch.stack(
        [
            torch.full_like(x, 0.28209479177387814),
            -0.4886025119029199 * y,
            0.4886025119029199 * z,
            -0.4886025119029199 * x,
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3 * zz - 1),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5 * zz - 1),
            0.3731763325901154 * z * (5 * zz - 3),
            -0.4570457994644658 * x * (5 * zz - 1),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ],
        1,
    )


def views(size):
    """One training step of a radiance field of a dense grid (grid_sample, as in DVGO) and a colour
    network on fixed rays."""
    torch.set_num_threads(race.THREADS)
    x, direction, delta, colour = map(torch.tensor, problem.views_batch(**size))
    table, *network = problem.views_parameters(**size)
    nodes = size["nodes"]
    n_rays = size["rays"]
    n_samples = size["samples"]
    grid = torch.tensor(
        table.reshape(nodes, nodes, nodes, -1).transpose(3, 0, 1, 2)[None].copy(),
        requires_grad=True,
    )
    network = [torch.tensor(v, requires_grad=True) for v in network]
    groups = [{"params": [grid], "lr": 1e-2}, {"params": network, "lr": 1e-3}]
    adam = torch.optim.Adam(groups, betas=problem.BETAS, eps=problem.EPS, fused=True)
    places = (2 * x - 1)[None, None, None]
    delta = delta.view(n_rays, n_samples)

    def update():
        z = functional.grid_sample(grid, places, align_corners=True).view(grid.shape[1], -1).T
        depth = torch.exp(torch.clamp(z[:, 0], max=11)).view(n_rays, n_samples) * delta
        h = torch.cat([z[:, 1:], harmonics(direction).repeat_interleave(n_samples, 0)], 1)
        for i in range(0, len(network), 2):
            h = functional.linear(h, *network[i : i + 2])
            h = functional.relu(h) if i + 2 < len(network) else torch.sigmoid(h)
        w = torch.exp(depth - depth.cumsum(1)) * (1 - torch.exp(-depth))
        loss = (((w[..., None] * h.view(n_rays, n_samples, 3)).sum(1) - colour) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item()

    def run(steps):
        for _ in range(steps):
            update()

    return {"step": run}, {"losses": [update() for _ in range(problem.CHECK_STEPS)]}
