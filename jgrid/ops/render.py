"""Volume rendering on packed samples: marching through an occupancy grid, visibility, compositing,
distortion; plain, and one op each.

The samples of ray r are rows offsets[r] .. offsets[r + 1] - 1 of every array of samples, front to
back; `offsets` is a numpy array (R + 1,) int32.
"""

from collections.abc import Sequence

from jgrid.ops.function import Function, header, pull_back_gradients

import jittor as jt
import numpy as np
from scipy.ndimage import distance_transform_cdt

HEADER = header("launch.h", "render.h")
# what both ways of marching begin with
RAYS = 'in0_p, in1_p, in2_p, in3_p, (int)in3_shape0, (float)data["step"]'


def pack(count: np.ndarray) -> np.ndarray:
    """Samples of each ray (R,) -> offsets (R + 1,) int32."""
    return np.concatenate([[0], np.cumsum(count)]).astype(np.int32)


def march(
    origin: jt.Var,
    direction: jt.Var,
    jitter: jt.Var,
    distance: jt.Var,
    step: float,
    contracted: bool = False,
) -> jt.Var:
    """How many of the points o + t d, t = t_near + (k + jitter) step for k = 0, 1, ..., lie in
    occupied cells of the unit cube.

    origin, direction (R, 3), the latter of length 1; jitter (R,) in [0, 1]; distance (G, G, G)
    uint8 of `distances`; step: a length
    -> (R,) int32. t_near is where the ray enters the cube, or 0 if it begins inside.

    contracted: all of space is looked at, through mip-NeRF 360's contraction (Barron et al. 2022,
    eq. 10) in the largest norm, which fills the cube, and with the box half as wide as the cube:
    for q = p - 1/2 and r = 4 |q|, c(p) = p where r <= 1, else 1/2 + (2 - 1/r) q / r. From the ray's
    origin on, a step that begins at radius r is max(1, r^2) step long, of which c makes `step`
    again along q; the last one begins where no more than a step is left to the border, which stands
    for infinity."""
    return _code(
        [[origin.shape[0]]],
        ["int32"],
        [origin, direction, jitter, distance],
        f"March<false, {_flag(contracted)}> f{{{RAYS}, nullptr, out0_p, nullptr, nullptr,"
        " nullptr};",
        step=float(step),
    )[0]


def marched(
    origin: jt.Var,
    direction: jt.Var,
    jitter: jt.Var,
    distance: jt.Var,
    step: float,
    offsets: np.ndarray,
    contracted: bool = False,
) -> tuple[jt.Var, jt.Var, jt.Var]:
    """The first offsets[r + 1] - offsets[r] of the points that `march` counts: x (S, 3) in the
    cube, t (S,), and their ray (S,) int32."""
    n = int(offsets[-1])
    x, t, ray = _code(
        [[n, 3], [n], [n]],
        ["float32", "float32", "int32"],
        [origin, direction, jitter, distance, jt.array(offsets)],
        f"March<true, {_flag(contracted)}> f{{{RAYS}, in4_p, nullptr, out0_p, out1_p, out2_p}};",
        rays="in0_shape0",
        step=float(step),
    )
    return x, t, ray


def distances(occupied: np.ndarray) -> np.ndarray:
    """How far the nearest occupied cell is, in cells along the axis where it is farthest, at most
    255: so much can be skipped.

    occupied (G, G, G) bool, axis 0 of the cube fastest -> (G, G, G) uint8, 0 in occupied cells.
    """
    if not occupied.any():
        return np.full(occupied.shape, 255, np.uint8)
    return np.minimum(distance_transform_cdt(~occupied, metric="chessboard"), 255).astype(np.uint8)


def march_plain(
    origin: np.ndarray,
    direction: np.ndarray,
    jitter: np.ndarray,
    occupied: np.ndarray,
    step: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The plain twin of `march` and `marched`, in numpy: (offsets, x, t, ray), every point looked
    at."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = (np.array([0, 1], np.float32)[:, None, None] - origin) / direction
    near = np.maximum(np.nanmax(ends.min(0), 1), 0)
    far = np.nanmin(ends.max(0), 1)
    k = np.arange(int(np.ceil(np.sqrt(3) / step)) + 1)
    t = near[:, None] + (k + jitter[:, None]) * np.float32(step)
    x = np.clip(origin[:, None] + t[..., None] * direction[:, None], 0, 1)
    cells = len(occupied)
    cell = np.minimum((x * cells).astype(int), cells - 1)
    inside = (t < far[:, None]) & occupied[cell[..., 2], cell[..., 1], cell[..., 0]]
    return pack(inside.sum(1)), x[inside], t[inside], np.nonzero(inside)[0].astype(np.int32)


def march_contracted_plain(
    origin: np.ndarray,
    direction: np.ndarray,
    jitter: np.ndarray,
    occupied: np.ndarray,
    step: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same for `contracted`, and besides where each step begins and ends, (S, 2)."""

    def at(t):
        return origin[left] + t[:, None] * direction[left]

    samples = []
    left = np.arange(len(origin))
    edge = np.zeros(len(origin))
    while len(left):
        radius = 4 * np.abs(at(edge) - 0.5).max(1)
        left, edge, radius = (values[4 * radius * step < 1] for values in (left, edge, radius))
        end = edge + step * np.maximum(1, radius**2)
        t = edge + jitter[left] * (end - edge)
        x = contract(at(t))
        cell = np.minimum((x * len(occupied)).astype(int), len(occupied) - 1)
        inside = occupied[cell[:, 2], cell[:, 1], cell[:, 0]]
        samples.append([values[inside] for values in (left, x, t, np.stack([edge, end], 1))])
        edge = end
    ray, x, t, ends = (np.concatenate(parts) for parts in zip(*samples))
    order = np.argsort(ray, kind="stable")
    return (
        pack(np.bincount(ray, minlength=len(origin))),
        x[order],
        t[order],
        ray[order],
        ends[order],
    )


def contract(points: np.ndarray) -> np.ndarray:
    """c(p) of `march`: (N, 3) anywhere, the box being [1/4, 3/4]^3 -> (N, 3) in the unit cube."""
    q = points - 0.5
    r = np.maximum(1, 4 * np.abs(q).max(-1, keepdims=True))
    return 0.5 + (2 - 1 / r) / r * q


def visible(density: jt.Var, delta: jt.Var, offsets: np.ndarray, least: float) -> jt.Var:
    """How many samples of each ray light reaches, those before its transmittance falls below
    `least`: (S,), (S,) -> (R,) int32."""
    return _code(
        [[len(offsets) - 1]],
        ["int32"],
        [density, delta, jt.array(offsets)],
        'Visible f{in0_p, in1_p, in2_p, (float)data["least"], out0_p};',
        least=float(least),
    )[0]


def composite(density: jt.Var, value: jt.Var, delta: jt.Var, offsets: np.ndarray) -> jt.Var:
    """Emission and absorption along each ray (Max 1995), in one op per direction; differentiable to
    any order:

        out_r = [sum_s w_s value_s, sum_s w_s],   w_s = T_s (1 - exp(-density_s delta_s)),   T_s =
        exp(-sum_{j < s} density_j delta_j).

    density, delta (S,), value (S, V) -> (R, V + 1), the opacity last.
    """
    return _Composite(delta, offsets)(density, value)


def composite_plain(density: jt.Var, value: jt.Var, delta: jt.Var, offsets: np.ndarray) -> jt.Var:
    """The plain twin of `composite`: samples laid out (R, S), then the formula, without Jittor's
    cumprod, which has no gradient at 0."""
    begin = offsets[:-1, None]
    end = offsets[1:, None]
    last = max(0, len(density) - 1)
    row = begin + np.arange(max(1, int(np.diff(offsets).max())))  # (R, S)
    there = jt.array((row < end).astype(np.float32))
    row = jt.array(np.minimum(row, last).astype(np.int32))
    depth = (density * delta)[row] * there
    # sums over the samples in front
    before = depth @ jt.array(np.triu(np.ones((row.shape[1],) * 2, np.float32), 1))
    # (R, S, 1)
    w = (jt.exp(-before) * (1.0 - jt.exp(-depth)) * there).unsqueeze(-1)
    return jt.concat([(w * value[row]).sum(1), w.sum(1)], dim=1)


def distortion(density: jt.Var, middle: jt.Var, delta: jt.Var, offsets: np.ndarray) -> jt.Var:
    """How far along each ray its weights w of `composite` lie apart (Barron et al. 2022, eq. 15),
    in one op, in time linear in S:

        out_r = sum_ij w_i w_j |m_i - m_j| + 1/3 sum_i w_i^2 delta_i.

    density, middle m, ascending along a ray, delta (S,) -> (R,); differentiable once, for the
    density."""
    return _Distortion(middle, delta, offsets)(density)


def distortion_plain(density: jt.Var, middle: jt.Var, delta: jt.Var, offsets: np.ndarray) -> jt.Var:
    """The plain twin of `distortion`: the double sum, ray by ray."""
    rays = []
    for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
        depth = (density * delta)[a:b]
        m = middle[a:b]
        in_front = jt.array(np.tril(np.ones((b - a,) * 2, np.float32), -1))
        w = jt.exp(-(in_front * depth).sum(1)) * (1.0 - jt.exp(-depth))
        apart = jt.abs(m.unsqueeze(0) - m.unsqueeze(1))
        between = (w.unsqueeze(0) * w.unsqueeze(1) * apart).sum()
        rays.append(between + (w * w * delta[a:b]).sum() / 3.0)
    return jt.concat(rays)


class _Distortion(Function):
    def __init__(self, middle, delta, offsets):
        super().__init__()
        self.fixed = [middle, delta, jt.array(offsets)]

    def execute(self, density):
        return _code(
            [[self.fixed[2].shape[0] - 1]],
            ["float32"],
            [density, *self.fixed],
            "Distortion f{in0_p, in1_p, in2_p, in3_p, out0_p};",
        )[0]

    def grad(self, gradient):
        return _code(
            [self.inputs[0].shape],
            ["float32"],
            [*self.inputs, *self.fixed, gradient],
            "DistortionBackward f{in0_p, in1_p, in2_p, in3_p, in4_p, out0_p};",
            rays="in3_shape0 - 1",
        )[0]


class _Composite(Function):
    def __init__(self, delta, offsets):
        super().__init__()
        self.delta = delta
        self.offsets = offsets

    def execute(self, density, value):
        v = value.shape[1]
        return _code(
            [[len(self.offsets) - 1, v + 1]],
            ["float32"],
            [density, value, self.delta, jt.array(self.offsets)],
            f"Composite<{v}> f{{in0_p, in1_p, in2_p, in3_p, out0_p}};",
        )[0]

    def grad(self, gradient):
        return _CompositeAdjoint(self.delta, self.offsets)(*self.inputs, gradient)


class _CompositeAdjoint(Function):
    """The gradients for density and value; differentiated again by the plain twin."""

    def __init__(self, delta, offsets):
        super().__init__()
        self.delta = delta
        self.offsets = offsets

    def execute(self, density, value, gradient):
        v = value.shape[1]
        return tuple(
            _code(
                [density.shape, value.shape],
                ["float32"] * 2,
                [density, value, self.delta, jt.array(self.offsets), gradient],
                f"CompositeBackward<{v}> f{{in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, out1_p}};",
                rays="in3_shape0 - 1",
            )
        )

    def grad(self, *cotangents):
        return pull_back_gradients(
            lambda *v: composite_plain(*v, self.delta, self.offsets), self.inputs, cotangents
        )


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _code(
    shapes: Sequence[Sequence[int]],
    dtypes: Sequence[str],
    inputs: list[jt.Var],
    body: str,
    rays: str = "out0_shape0",
    **data: float,
) -> list[jt.Var]:
    """One op: a body of render.h over all rays. The number of samples may change from call to call;
    nothing is compiled for it."""

    def source(launcher: str) -> str:
        return f"using namespace jgrid; {body} {launcher}(f, {rays}, 1);"

    return jt.code(
        shapes,
        dtypes,
        inputs,
        cpu_header=HEADER,
        cpu_src=source("over_rays"),
        cuda_header=HEADER,
        cuda_src=source("launch"),
        data=data,
    )
