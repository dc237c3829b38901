"""Volume rendering: exact integrals, the plain twins, gradients, cameras that see what they
should."""

from jgrid.ops.render import (
    composite,
    composite_plain,
    contract,
    distances,
    distortion,
    distortion_plain,
    march,
    march_contracted_plain,
    march_plain,
    marched,
    pack,
    visible,
)
from jgrid.scene.camera import Box, Camera, look_at
from jgrid.scene.crop import Cropped
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.radiance import RadianceField
from jgrid.scene.render import render_rays, render_view

import jittor as jt
import numpy as np
import pytest
from jittor import nn


def rays(n, rng):
    """Rays from around the unit cube, some of which miss it."""
    origin = rng.normal(size=(n, 3))
    origin *= 2 / np.linalg.norm(origin, axis=1, keepdims=True)
    direction = rng.uniform(-0.7, 0.7, (n, 3)) - origin
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return (origin + 0.5).astype(np.float32), direction.astype(np.float32)


def packed(rng, counts, channels=2):
    """offsets, density, value, delta of random samples."""
    n = sum(counts)
    density = rng.uniform(0, 3, n)
    density[::3] = 0
    return pack(counts), *(
        jt.array(a.astype(np.float32))
        for a in (density, rng.normal(size=(n, channels)), rng.uniform(0.1, 0.5, n))
    )


class Medium:
    """A radiance of given density and colour functions of x."""

    def __init__(
        self,
        density,
        colour=lambda x: np.full((len(x), 3), [0.2, 0.5, 0.9]),
        enclosed=False,
    ):
        self.enclosed = enclosed
        self._density = density
        self.colour = colour

    def density(self, x):
        return jt.array(np.float32(self._density(x.numpy())))

    def __call__(self, x, direction, ray):
        return self.density(x), jt.array(np.float32(self.colour(x.numpy())))


def along_x(medium, step=0.002, cells=16):
    """[colour, t, opacity] of one ray through the middle of the unit cube, from a distance of 1."""
    occupancy = Occupancy(cells, step)
    one = [jt.array(np.float32(v)) for v in ([[-1, 0.5, 0.5]], [[1, 0, 0]], [0.5])]
    return render_rays(medium, occupancy, *one, with_depth=True)[0].numpy()[0]


def test_empty_space_shows_nothing():
    assert (along_x(Medium(lambda x: np.zeros(len(x)))) == 0).all()


def test_an_opaque_wall_shows_its_colour_and_its_distance():
    seen = along_x(Medium(lambda x: np.where(x[:, 0] > 0.25, 1e6, 0.0)))
    np.testing.assert_allclose(seen[:3], [0.2, 0.5, 0.9], rtol=1e-5)
    assert abs(seen[3] - 1.25) < 0.003 and np.isclose(seen[4], 1)


@pytest.mark.parametrize("density", [0.1, 1.0, 4.0])
def test_a_constant_medium_is_the_exact_integral(density):
    """opacity 1 - e^-density through a unit of length; E[t] = 1 + int_0^1 t density e^(-density t)
    dt."""
    seen = along_x(Medium(lambda x: np.full(len(x), density)))
    opacity = 1 - np.exp(-density)
    np.testing.assert_allclose(seen[4], opacity, rtol=1e-4)
    np.testing.assert_allclose(seen[:3], opacity * np.array([0.2, 0.5, 0.9]), rtol=1e-4)
    np.testing.assert_allclose(
        seen[3], opacity + (1 - (1 + density) * np.exp(-density)) / density, rtol=3e-3
    )


def test_two_slabs_cover_each_other():
    """c = c_1 (1 - e^-d_1) + e^-d_1 c_2 (1 - e^-d_2) for slabs of optical depths d_1, d_2."""
    first = np.array([1.0, 0, 0])
    second = np.array([0, 1.0, 0.5])
    medium = Medium(
        lambda x: np.where(x[:, 0] < 0.25, 3.0, np.where(x[:, 0] > 0.5, 5.0, 0.0)),
        lambda x: np.where(x[:, :1] < 0.4, first, second),
    )
    covered = np.exp(-3 * 0.25)
    seen = along_x(medium)
    np.testing.assert_allclose(
        seen[:3], first * (1 - covered) + second * covered * (1 - np.exp(-5 * 0.5)), rtol=2e-3
    )


def test_marching_finds_what_looking_everywhere_finds():
    rng = np.random.default_rng(0)
    occupied = rng.uniform(size=(9, 9, 9)) < 0.04
    occupied[4, :, 2] = True
    origin, direction = rays(300, rng)
    jitter = rng.uniform(size=300).astype(np.float32)
    step = 0.013
    inputs = [jt.array(a) for a in (origin, direction, jitter, distances(occupied))]
    found = pack(march(*inputs, step).numpy())
    wanted, x, t, ray = march_plain(origin, direction, jitter, occupied, step)
    same = np.diff(found) == np.diff(wanted)  # a sample on a cell's face may fall to either side
    assert (
        same.mean() > 0.97
        and np.abs(np.diff(found) - np.diff(wanted)).max() <= 1
        and wanted[-1] > 500
    )
    ours = [v.numpy() for v in marched(*inputs, step, found)]
    chosen = same[ours[2]]
    expected = same[ray]
    for a, b in zip(ours, (x, t, ray)):
        np.testing.assert_allclose(a[chosen], b[expected], atol=2e-5)
    half = pack(np.diff(found) // 2)
    begin = np.concatenate([np.arange(a, a + n) for a, n in zip(found[:-1], np.diff(half))])
    np.testing.assert_array_equal(marched(*inputs, step, half)[0].numpy(), ours[0][begin])


def test_distances_are_to_the_nearest_occupied_cell():
    occupied = np.zeros((5, 6, 7), bool)
    assert (distances(occupied) == 255).all()
    occupied[1, 2, 3] = True
    i, j, k = np.indices(occupied.shape)
    np.testing.assert_array_equal(
        distances(occupied), np.maximum.reduce([abs(i - 1), abs(j - 2), abs(k - 3)])
    )


def test_rays_along_an_axis_and_from_inside():
    origin = np.float32([[0.5, 0.5, -1], [0.5, 0.5, 0.5], [2.0, 0.5, 0.5], [0.25, 1.5, 0.25]])
    direction = np.float32([[0, 0, 1], [0, -1, 0], [0, 1, 0], [0, 1, 0]])
    inputs = [
        jt.array(a)
        for a in (
            origin,
            direction,
            np.full(4, 0.5, np.float32),
            distances(np.ones((4, 4, 4), bool)),
        )
    ]
    assert march(*inputs, 0.1).numpy().tolist() == [10, 5, 0, 0]


def test_contraction_keeps_the_box_and_holds_all_of_space():
    rng = np.random.default_rng(0)
    inside = rng.uniform(0.25, 0.75, (20, 3))
    np.testing.assert_allclose(contract(inside), inside, rtol=1e-12)
    # one, two, four and infinitely many half-sides from the centre: (2 - 1/r) of them, a quarter of
    # the cube each
    line = contract(
        np.array([0.5, 0.5, 0.5]) + np.array([[1], [2], [4], [1e12]]) * [0.25, -0.125, 0.0]
    )
    np.testing.assert_allclose(
        line - 0.5, np.array([[1], [1.5], [1.75], [2]]) * [0.25, -0.125, 0.0], atol=1e-9
    )


def test_marching_through_contracted_space_finds_what_looking_everywhere_finds():
    rng = np.random.default_rng(0)
    occupied = rng.uniform(size=(12, 12, 12)) < 0.2
    origin, direction = rays(200, rng)
    origin[:100] = rng.uniform(0.2, 0.8, (100, 3))
    jitter = rng.uniform(size=200).astype(np.float32)
    step = 0.013
    inputs = [jt.array(a) for a in (origin, direction, jitter, distances(occupied))]
    found = pack(march(*inputs, step, True).numpy())
    wanted, x, t, ray, _ = march_contracted_plain(
        origin.astype(float), direction.astype(float), jitter, occupied, step
    )
    same = np.diff(found) == np.diff(wanted)  # a sample on a cell's face may fall to either side
    assert (
        same.mean() > 0.97
        and np.abs(np.diff(found) - np.diff(wanted)).max() <= 1
        and wanted[-1] > 1000
    )
    ours = [v.numpy() for v in marched(*inputs, step, found, True)]
    chosen = same[ours[2]]
    expected = same[ray]
    np.testing.assert_array_equal(ours[2][chosen], ray[expected])
    np.testing.assert_allclose(ours[0][chosen], x[expected], atol=1e-4)
    np.testing.assert_allclose(ours[1][chosen], t[expected], rtol=1e-3)


def test_contracted_steps_cover_a_ray_to_far_away_and_are_a_step_long_in_the_cube():
    """Outwards from the box the contracted samples advance by `step` each; together the steps leave
    nothing out."""
    step = 0.01
    direction = np.array([[0.36, 0.48, 0.8]])
    _, x, t, _, ends = march_contracted_plain(
        np.full((1, 3), 0.5), direction, np.zeros(1), np.ones((1, 1, 1), bool), step
    )
    np.testing.assert_array_equal(ends[1:, 0], ends[:-1, 1])
    assert ends[0, 0] == 0 and ends[-1, 1] * 0.8 * 4 > 1 / (4 * step) and len(t) < 1 / step
    advance = np.diff(x[:, 2])
    near = t * 0.8 * 4 < 5
    assert (np.abs(advance[near[1:]] / (0.8 * step) - 1) < 0.25).all() and (advance > 0).all()
    np.testing.assert_allclose(x[-1, 2], 1, atol=2 * step)


def test_a_far_wall_is_seen_through_contracted_space():
    """A wall 9 half-sides away, to within a step there."""
    wall = contract(np.array([[0.5 + 9 / 4, 0.5, 0.5]]))[0, 0]
    medium = Medium(lambda x: np.where(x[:, 0] > wall, 1e6, 0.0))
    one = [jt.array(np.float32(v)) for v in ([[0.5, 0.5, 0.5]], [[1, 0, 0]], [0.5])]
    seen = render_rays(medium, Occupancy(16, 0.002, contracted=True), *one, with_depth=True)[
        0
    ].numpy()[0]
    np.testing.assert_allclose(seen[:3], [0.2, 0.5, 0.9], rtol=1e-5)
    assert abs(seen[3] - 9 / 4) < 1.5 * 0.002 * 81


@pytest.mark.parametrize("contracted", [True, False])
def test_what_is_enclosed_has_the_last_colour_behind_it(contracted):
    occupancy = Occupancy(8, 0.05, contracted=contracted, enclosed=True)
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(20, 3)).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    rays = [jt.array(np.float32(v)) for v in (np.full((20, 3), 0.4), direction, np.full(20, 0.5))]

    def colour(x):
        return np.stack([x[:, 0], x[:, 1], x[:, 0] * x[:, 2]], 1)

    medium = Medium(lambda x: 3 * x[:, 0], colour, enclosed=True)
    seen, samples = render_rays(medium, occupancy, *rays)
    assert seen.numpy()[:, 3].max() < 0.9
    through = seen[:, :3] + (1 - seen[:, 3:]) * samples.behind
    offsets, taken = occupancy.march(*rays)
    np.testing.assert_array_equal(offsets, samples.offsets)
    x = taken(offsets)[0].numpy()
    for ray, (begin, end) in enumerate(zip(offsets[:-1], offsets[1:])):
        alpha = 1 - np.exp(-0.05 * 3 * x[begin:end, 0])
        alpha[-1] = 1
        weight = alpha * np.cumprod(np.append(1, 1 - alpha[:-1]))
        wanted = weight @ colour(x[begin:end])
        np.testing.assert_allclose(through.numpy()[ray], wanted, atol=1e-5)
    open_ = Medium(lambda x: 3 * x[:, 0], colour)
    assert render_rays(open_, occupancy, *rays)[1].behind is None


def test_of_an_enclosed_grid_the_faces_stay_occupied():
    occupancy = Occupancy(4, 0.01, fraction=1.0, enclosed=True)
    for _ in range(3):
        occupancy.update(lambda x: jt.zeros(x.shape[0]), everything=True)
    cells = occupancy.occupied.reshape(4, 4, 4)
    assert not cells[1:-1, 1:-1, 1:-1].any() and cells.sum() == 4**3 - 2**3
    restored = Occupancy(4, 0.01, enclosed=True)
    restored.restore(occupancy.density, occupancy.updates)
    np.testing.assert_array_equal(restored.occupied, occupancy.occupied)
    assert Occupancy(1, 0.01, enclosed=True).occupied.all()


@pytest.mark.parametrize("cells, samples", [(96, 256), (96, 96), (64, 16), (256, 128), (3, 64)])
def test_each_ray_of_an_enclosed_grid_has_a_last_sample(cells, samples):
    occupancy = Occupancy(cells, 1 / samples, contracted=True, enclosed=True)
    occupancy.carve(np.zeros(cells**3, bool))
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(500, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    origin = rng.uniform(0.3, 0.7, size=(500, 3))
    rays = [jt.array(np.float32(v)) for v in (origin, direction, rng.uniform(size=500))]
    assert np.diff(occupancy.march(*rays)[0]).min() > 0


def test_a_crop_of_what_is_enclosed_is_open():
    medium = Medium(lambda x: 0 * x[:, 0], enclosed=True)
    camera = Camera(4, 4, 6.0, 6.0, 2.0, 2.0)
    box = Box(1.0, contracted=True)
    occupancy = Occupancy(8, 0.05, contracted=True, enclosed=True)
    for radiance, colour in ((medium, [0.2, 0.5, 0.9]), (Cropped(medium, 0.25, 0.75), [1, 1, 1])):
        seen = render_view(radiance, occupancy, camera, look_at((3, 1, 2)), box, 1.0)
        np.testing.assert_allclose(seen[0], np.broadcast_to(colour, (4, 4, 3)), atol=1e-6)
        assert not seen[2].any() and np.isinf(seen[1]).all()


def double_sum(density, middle, delta, offsets):
    """Equation 15 of mip-NeRF 360, as it reads."""
    results = []
    for a, b in zip(offsets[:-1], offsets[1:]):
        through = 1.0
        total = 0.0
        w = []
        for s in range(a, b):
            w.append(through * (1 - np.exp(-density[s] * delta[s])))
            through *= np.exp(-density[s] * delta[s])
        for i in range(b - a):
            total += w[i] ** 2 * delta[a + i] / 3 + sum(
                w[i] * w[j] * abs(middle[a + i] - middle[a + j]) for j in range(b - a)
            )
        results.append(total)
    return np.array(results)


def test_distortion_is_the_double_sum_and_its_gradients_are_differences():
    rng = np.random.default_rng(4)
    offsets, density, _, delta = packed(rng, [5, 0, 7, 1])
    middle = np.concatenate([np.sort(rng.uniform(0, 3, n)) for n in np.diff(offsets)]).astype(
        np.float32
    )
    exact = [v.numpy().astype(float) for v in (density, jt.array(middle), delta)]
    cotangent = rng.normal(size=4)
    found, twin = (
        f(density, jt.array(middle), delta, offsets) for f in (distortion, distortion_plain)
    )
    np.testing.assert_allclose(found.numpy(), double_sum(*exact, offsets), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(twin.numpy(), double_sum(*exact, offsets), rtol=1e-4, atol=1e-6)
    differences = [
        cotangent
        @ (
            double_sum(exact[0] + e, *exact[1:], offsets)
            - double_sum(exact[0] - e, *exact[1:], offsets)
        )
        / 2e-5
        for e in 1e-5 * np.eye(13)
    ]
    for value in (found, twin):
        slope = jt.grad((value * jt.array(cotangent.astype(np.float32))).sum(), density).numpy()
        np.testing.assert_allclose(slope, differences, atol=2e-5)


@pytest.mark.parametrize("counts", [[3, 0, 5, 1], [1]])
def test_compositing_equals_its_plain_twin(counts):
    rng = np.random.default_rng(1)
    offsets, density, value, delta = packed(rng, counts)
    cotangent = jt.array(rng.normal(size=(len(counts), 3)).astype(np.float32))
    found = composite(density, value, delta, offsets)
    wanted = composite_plain(density, value, delta, offsets)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-6)
    for a, b in zip(
        *(jt.grad((out * cotangent).sum(), [density, value]) for out in (found, wanted))
    ):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-6)


def test_compositing_gradients_are_differences():
    rng = np.random.default_rng(2)
    offsets, density, value, delta = packed(rng, [6, 4])
    cotangent = rng.normal(size=(2, 3))

    def exact(density):
        total = 0.0
        w = []
        for r, (a, b) in enumerate(((0, 6), (6, 10))):
            depth = density[a:b] * delta.numpy()[a:b].astype(float)
            w = np.exp(-(np.cumsum(depth) - depth)) * (1 - np.exp(-depth))
            total += cotangent[r] @ np.append(w @ value.numpy()[a:b], w.sum())
        return total

    d = jt.grad(
        (composite(density, value, delta, offsets) * jt.array(cotangent.astype(np.float32))).sum(),
        density,
    ).numpy()
    start = density.numpy().astype(float)
    differences = [(exact(start + 1e-5 * e) - exact(start - 1e-5 * e)) / 2e-5 for e in np.eye(10)]
    np.testing.assert_allclose(d, differences, atol=1e-5)


def test_compositing_has_second_derivatives():
    offsets, density, value, delta = packed(np.random.default_rng(3), [4, 2])
    results = []
    for function in (composite, composite_plain):
        slopes = jt.grad((function(density, value, delta, offsets) ** 2).sum(), [density, value])
        results.append(
            [g.numpy() for g in jt.grad(sum((s * s).sum() for s in slopes), [density, value])]
        )
    for a, b in zip(*results):
        assert np.abs(a).max() > 1e-3
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_visible_samples_are_those_before_darkness():
    offsets = pack([4, 3, 0])
    delta = jt.array(np.full(7, 0.5, np.float32))
    density = jt.array(np.float32([0, 20, 1, 1, 0.1, 0.1, 0.1]))
    assert visible(density, delta, offsets, 1e-3).numpy().tolist() == [2, 3, 0]


MARK = np.array([0.4, 0.15, 0.25])


def cube(x):
    """Density of a cube of side 0.2 around MARK, in a box of half side 1."""
    return np.where(np.abs((x - 0.5) * 2 - MARK).max(1) < 0.1, 1e4, 0.0)


# the eye, then which coordinates of the mark lie to the right, up, and towards it
@pytest.mark.parametrize(
    "eye, right, up, near",
    [
        ((0, -3, 0), 0.4, 0.25, -0.15),
        ((0, 3, 0), -0.4, 0.25, 0.15),
        ((3, 0, 0), 0.15, 0.25, 0.4),
        ((0, 0, 3), 0.4, 0.15, 0.25),
    ],
)
def test_a_marked_cube_is_where_the_camera_should_see_it(eye, right, up, near):
    """For a camera that looks along +y with +z up, right is +x; from above with +y up too; to the
    sides as a walk around it says."""
    camera = Camera(63, 63, 109.0, 109.0, 31.5, 31.5)
    pose = look_at(eye, up=(0, 1, 0) if eye[2] else (0, 0, 1))
    colour, depth, opacity = render_view(
        Medium(cube), Occupancy(8, 0.005), camera, pose, Box(1.0), 1.0
    )
    rows, columns = np.nonzero(opacity > 0.5)
    scale = 109 / (3 - near - 0.05)  # pixels a unit, between the cube's middle and its front
    assert (
        abs(columns.mean() - (31 + scale * right)) < 0.8
        and abs(rows.mean() - (31 - scale * up)) < 0.8
    )
    np.testing.assert_allclose(colour[0, 0], 1)
    front = np.linalg.norm(np.asarray(eye) - MARK) - 0.1
    assert abs(depth[opacity > 0.99].min() - front) < 0.06


def test_distortion_is_inverted():
    camera = Camera(200, 120, 150.0, 140.0, 97.0, 63.0, (0.08, -0.03, 0.004, -0.002))
    u, v = np.random.default_rng(0).uniform(0, 1, (2, 50)) * [[200], [120]]
    direction = camera.directions(u, v)
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), 1)
    np.testing.assert_allclose(camera.project(3 * direction), np.stack([u, v], 1), atol=1e-6)
    assert np.isnan(camera.project(-direction)).all()


def test_rays_of_pixels_of_many_poses_are_those_of_each():
    camera = Camera(5, 4, 6.0, 7.0, 2.5, 2.0)
    poses = np.stack([look_at((3, 1, 2)), look_at((-1, 2, 0.5))])
    whole = [camera.rays(pose) for pose in poses]
    origin, direction = camera.rays(poses[[0, 1, 1]], np.array([7, 7, 19]))
    for n, (view, pixel) in enumerate(((0, 7), (1, 7), (1, 19))):
        np.testing.assert_allclose(origin[n], whole[view][0][pixel])
        np.testing.assert_allclose(direction[n], whole[view][1][pixel], atol=1e-6)


def test_occupancy_follows_the_density_and_forgets():
    occupancy = Occupancy(8, 0.01, fraction=1.0, decay=0.5, least=0.01)
    assert occupancy.occupied.all()
    medium = Medium(cube)
    for _ in range(6):
        occupancy.update(medium.density, everything=True)
    centres = occupancy.centres()
    near = np.abs((centres - 0.5) * 2 - MARK).max(1)
    assert not occupancy.occupied[near > 0.3].any() and occupancy.occupied.any()
    for _ in range(40):
        occupancy.update(lambda x: jt.zeros(x.shape[0]), everything=True)
    assert not occupancy.occupied.any()


def test_a_grid_of_one_cell_can_be_looked_at():
    occupancy = Occupancy(1, 0.01)
    for everything in (True, False):
        occupancy.update(lambda x: jt.ones(x.shape[0]) * 50.0, everything)
    assert occupancy.occupied.all()


def test_too_dense_can_become_less_so():
    """exp(min(z, 11)), with a slope also beyond."""
    field = RadianceField(nn.Identity(), features=1, width=4)
    z = jt.array(np.float32([[-3.0, 0.0], [10.5, 0.0], [11.5, 0.0], [80.0, 0.0]]))
    density = field.density(z)
    wanted = np.exp(np.minimum(z.numpy()[:, 0], 11))
    np.testing.assert_allclose(density.numpy(), wanted, rtol=1e-5)
    np.testing.assert_allclose(
        jt.grad(density.sum(), z).numpy(), np.stack([wanted, 0 * wanted], axis=1), rtol=1e-5
    )


def test_carved_cells_stay_empty():
    occupancy = Occupancy(4, 0.01)
    keep = np.arange(64) < 10
    occupancy.carve(keep)
    occupancy.update(lambda x: jt.ones(x.shape[0]) * 50.0, everything=True)
    np.testing.assert_array_equal(occupancy.occupied, keep)
