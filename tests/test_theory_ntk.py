"""Closed-form NTKs, kernel regression, bounds and spectra: unit values, the authors' set-ups, and
wide networks that follow theory."""

from jgrid.design import SparseDesign
from jgrid.encoding import gaussian_frequencies
from jgrid.field import Field
from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel
from jgrid.network import MLP
from jgrid.theory import published
from jgrid.theory.bounds import bound, complexity, complexity_by_cg, fair_complexity, trace
from jgrid.theory.dynamics import gradient_descent, predicted_outputs
from jgrid.theory.kernels import (
    composed_ntk,
    empirical_ntk,
    fourier_kernel,
    gtk,
    kernel_regression,
)
from jgrid.theory.spectrum import band_eigenvalues, band_noise, largest_eigenvalues, row_spectrum

import jittor as jt
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

N = 32
X = np.arange(N)[:, None] / N
FREQUENCIES = np.arange(1, 17.0)[:, None]


def amplitudes(p):
    return (np.arange(1, 17) == 1).astype(float) if np.isinf(p) else FREQUENCIES[:, 0] ** -p


def encode(x, p):
    a = amplitudes(p) / np.linalg.norm(amplitudes(p))
    angle = 2 * np.pi * x @ FREQUENCIES.T
    return np.concatenate([a * np.sin(angle), a * np.cos(angle)], axis=1)


@pytest.mark.parametrize(
    "p, least, spectrum",
    [
        (0, 5.519, (187.78, 8.301, 8.301, 8.301, 11.187)),
        (1, 4.565, (201.60, 41.185, 6.701, 2.142, 2.193)),
        (np.inf, 4.120, (224.60, 65.223, 2.321, 0.442, 0.439)),
    ],
)
def test_unit_values_of_the_composed_kernel(p, least, spectrum):
    """Gate A1: figure 2 of the Fourier features paper's notebook, 4 layers of 1024, 32 points, 16
    frequencies."""
    kernel = composed_ntk(X, X, 4, 1024, FREQUENCIES, amplitudes(p))
    assert np.isclose(kernel[0, 0], 14.0, rtol=1e-3) and np.isclose(
        kernel[0].min(), least, rtol=1e-3
    )
    np.testing.assert_allclose(
        np.abs(np.fft.fft(kernel[0]))[[0, 1, 5, 15, 16]], spectrum, rtol=1e-3, atol=5e-4
    )
    # it depends on the difference only
    np.testing.assert_allclose(kernel[5], np.roll(kernel[0], 5), rtol=1e-7)
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvalsh(kernel)), np.sort(np.abs(np.fft.fft(kernel[0]))), rtol=1e-6
    )


def test_fourier_kernel_is_the_inner_product_of_the_features():
    x = np.random.default_rng(0).uniform(size=(5, 1))
    a = amplitudes(1) / np.linalg.norm(amplitudes(1))
    np.testing.assert_allclose(
        fourier_kernel(x, X, FREQUENCIES, a), encode(x, 1) @ encode(X, 1).T, atol=1e-12
    )
    np.testing.assert_allclose(
        fourier_kernel(x, X, FREQUENCIES)[2, 7],
        np.cos(2 * np.pi * FREQUENCIES[:, 0] * (x[2] - X[7])).sum(),
    )


def wide_mlp(n_in, hidden, width):
    """The MLP in the parameters of the theory: weights N(0, 1 / inputs), biases zero."""
    model = MLP(n_in, 1, width, hidden)
    for layer in model.layers:
        layer.weight = jt.array(
            (
                np.random.normal(size=tuple(layer.weight.shape)) / np.sqrt(layer.weight.shape[1])
            ).astype(np.float32)
        )
    return model


def test_closed_form_is_the_limit_of_the_empirical_kernel():
    """On coordinates, of unlike lengths, one of them zero; the error falls like 1 / sqrt(width)."""
    x = np.array([[0.0, 0.0], [0.5, 0.2], [-0.3, 0.9], [0.1, -0.8]])
    wanted = composed_ntk(x, x, 3, 1024)
    found = np.zeros((4, 4))
    for _ in range(4):
        found += (
            empirical_ntk(Field(None, wide_mlp(2, 2, 1024), {"network": 1.0}), x)["network"] / 4
        )
    assert np.abs(found - wanted).max() < 0.05 * wanted.max()
    np.testing.assert_allclose(composed_ntk(x[:2], x, 3, 1024), wanted[:2])


@pytest.mark.parametrize(
    "p, train, test, mode", [(1, 0.07, 0.10, (0.33, 0.55)), (0, 0.10, 0.30, (0.0, 0.15))]
)
def test_a_wide_network_trains_as_predicted(p, train, test, mode):
    """Gate A2: 4 layers of 1024, 400 steps of gradient descent at 0.2 / lambda_max, anchored at the
    outputs of step 0."""
    random = np.random.default_rng(0)
    f = np.fft.fftfreq(256, 1 / 256)
    coefficients = (
        (random.normal(size=256) + 1j * random.normal(size=256))
        / np.maximum(np.abs(f), 1)
        * (np.abs(f) < N / 2)
    )
    signal = np.fft.ifft(coefficients).real
    signal = ((signal - signal.min()) / np.ptp(signal) - 0.5)[:, None]
    held_out = np.arange(256) % 8 != 0
    x = np.arange(256)[:, None] / 256
    y = signal[::8]
    kernel = composed_ntk(x, X, 4, 1024, FREQUENCIES, amplitudes(p))
    lr = 0.2 / np.linalg.eigvalsh(kernel[::8])[-1]
    model = wide_mlp(32, 3, 1024)
    everywhere = jt.array(encode(x, p).astype(np.float32))
    start = model(everywhere).numpy().astype(np.float64)
    steps = [100, 200, 400]
    wanted = predicted_outputs(kernel[::8], y, lr, steps, start[::8], kernel, start)
    for (k, _), outputs in zip(
        gradient_descent(model, encode(X, p), y, lr, steps, list(model.parameters())), wanted
    ):
        found = model(everywhere).numpy()
        assert np.linalg.norm((found - outputs)[::8]) <= train * np.linalg.norm(start[::8] - y), k
        assert np.linalg.norm((found - outputs)[held_out]) <= test * np.linalg.norm(
            (outputs - start)[held_out]
        ), k
    left, first = (np.abs(np.fft.fft(v[::8, 0] - y[:, 0]))[15] for v in (found, start))
    assert mode[0] <= left / first <= mode[1]


def text_picture(size):
    """Four large letters: strokes of several pixels, or what lies between the samples could not be
    told."""
    image = Image.new("L", (size, size), 30)
    draw = ImageDraw.Draw(image)
    for place, letter in enumerate("GRID"):
        draw.text(
            (size * (0.25 + place % 2 / 2), size * (0.25 + place // 2 / 2)),
            letter,
            fill=150 + 30 * place,
            anchor="mm",
            font=ImageFont.load_default(size / 1.7),
        )
    return np.asarray(image) / 255


def test_bandwidth_decides_on_a_picture():
    """Gate A3 at small size, by predicted training: trained on [::2, ::2], tested on [1::2,
    1::2]."""
    size = 64
    pixels = text_picture(size)
    y, x = np.meshgrid(np.arange(size) / size, np.arange(size) / size, indexing="ij")
    points = np.stack([x, y], axis=-1)
    train = points[::2, ::2].reshape(-1, 2)
    test = points[1::2, 1::2].reshape(-1, 2)
    colours = pixels[::2, ::2].reshape(-1)
    wanted = pixels[1::2, 1::2].reshape(-1)

    def psnr(frequencies):
        kernel, kernel_test = (composed_ntk(p, train, 3, 128, frequencies) for p in (train, test))
        outputs = predicted_outputs(
            kernel,
            colours[:, None],
            1 / np.linalg.eigvalsh(kernel)[-1],
            [3000],
            kernel_test=kernel_test,
        )
        return -10 * np.log10(np.mean((np.clip(outputs[0, :, 0], 0, 1) - wanted) ** 2))

    none = psnr(None)
    little, middle, much = (psnr(gaussian_frequencies(2, 128, sigma)) for sigma in (0.3, 3.0, 30.0))
    assert middle - none >= 4 and middle - little >= 3 and middle - much >= 5


def test_kernel_regression():
    kernel = composed_ntk(X, X, 4, 1024, FREQUENCIES, amplitudes(1))
    y = np.random.default_rng(0).normal(size=(N, 2))
    np.testing.assert_allclose(kernel_regression(kernel, kernel, y), y, atol=1e-9)
    wanted = kernel[:3] @ np.linalg.solve(kernel + 0.5 * np.eye(N), y[:, 0])
    np.testing.assert_allclose(kernel_regression(kernel, kernel[:3], y[:, 0], 0.5), wanted)
    twice = np.kron(np.ones((2, 2)), kernel)  # every point twice, with two labels: their mean
    found = kernel_regression(twice, twice, np.concatenate([y, y + 1]))
    np.testing.assert_allclose(found[:N], y + 0.5, atol=1e-9)


def small_grid():
    grid = Grid(GridIndex(2, [4, 9], table_size=40), InterpolationKernel("smooth"), 1)
    x = np.random.default_rng(1).uniform(size=(150, 2)).astype(np.float32)
    y = np.random.default_rng(2).uniform(size=(150, 2))
    return grid, x, gtk(grid, x), y


def test_complexity_by_conjugate_gradients_equals_dense():
    grid, x, kernel, y = small_grid()
    design = SparseDesign(grid, x)
    for ridge in (0.01, 1.0):
        dense = complexity(kernel, y, ridge)
        free = complexity_by_cg(design, y, ridge, 1e-9)
        z = np.linalg.solve(kernel + ridge * np.eye(150), y)
        np.testing.assert_allclose(
            dense,
            [(y * z).sum(0), (z * (kernel @ z)).sum(0), ((y - kernel @ z) ** 2).sum(0)],
            rtol=1e-6,
        )
        np.testing.assert_allclose(free, dense, rtol=1e-6)
        np.testing.assert_allclose(dense.delta, dense.norm + dense.misfit / ridge, rtol=1e-9)
    with pytest.raises(RuntimeError, match="larger ridge"):
        complexity_by_cg(design, y, 1e-9, most=3)


def test_rank_deficient_kernels_are_told():
    """65 features for 150 points: what the grid cannot reach is named, and the rest is |w|^2 of the
    shortest solution."""
    grid, x, kernel, y = small_grid()
    (phi,) = SparseDesign(grid, x).rows
    found = complexity(kernel, y)
    w, misfit = np.linalg.lstsq(phi.toarray(), y, rcond=1e-6)[:2]
    np.testing.assert_allclose(found.norm, (w**2).sum(0), rtol=1e-6)
    np.testing.assert_allclose(found.misfit, ((y - phi @ w) ** 2).sum(0), rtol=1e-6)
    assert (found.misfit > 1).all()


def test_bound():
    """The whole of it by hand; its middle term does not see the scale of the kernel, Delta does."""
    grid, x, kernel, y = small_grid()
    np.testing.assert_allclose(trace(grid, x), [np.trace(kernel)])
    norm = complexity(kernel, y).norm
    np.testing.assert_allclose(
        bound(0.1, norm, np.trace(kernel), 150, 0.1),
        0.1 + 2 * np.sqrt(norm * np.trace(kernel)) / 150 + 3 * np.sqrt(np.log(20) / 300),
    )
    scaled = complexity(7 * kernel, y).norm
    np.testing.assert_allclose(scaled, norm / 7)
    np.testing.assert_allclose(
        fair_complexity(scaled, 7 * np.trace(kernel), 150),
        fair_complexity(norm, np.trace(kernel), 150),
    )


def test_the_published_two_point_map():
    """VoxelGrid minus FourierGrid, each over its own maximum: the colour bar of the published
    figure."""
    x = np.array([0, 0.5])
    voxel = published.voxel_grid(x, 10)
    fourier = published.fourier_grid(x, 10, 10)
    np.testing.assert_allclose(voxel @ voxel.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(fourier @ fourier.T, [[5, 3], [3, 5]], atol=1e-12)
    maps = [published.two_point_map(phi) for phi in (voxel, fourier)]
    y1, y2 = published.label_pairs()
    label = np.array([[y1[7, 80]], [y2[7, 80]]])
    np.testing.assert_allclose(maps[1][7, 80], complexity(fourier @ fourier.T, label).delta[0])
    assert abs(maps[0].max() - 2.068) < 1e-3 and abs(maps[1].max() - 1.017) < 1e-3
    difference = maps[0] / maps[0].max() - maps[1] / maps[1].max()
    np.testing.assert_allclose(
        [difference.min(), difference.max(), difference.mean()],
        [-0.0165, 0.7458, 0.1215],
        atol=5e-5,
    )


@pytest.mark.parametrize(
    "bands, peak, least", [(0, 1.0, 1.0), (2, 3.2, 0.07), (10, 33, 1.2), (20, 41, 3.4)]
)
def test_the_published_spectra(bands, peak, least):
    """Levels of the published panel: the first row's |FFT|, smoothed over two bins."""
    x = np.arange(100) / 100
    phi = published.fourier_grid(x, 10, bands) if bands else published.voxel_grid(x, 100)
    spectrum = row_spectrum((phi @ phi.T)[0], 2)
    np.testing.assert_allclose([spectrum.max(), spectrum.min()], [peak, least], rtol=0.05)
    assert spectrum.argmax() == 50 or not bands


def test_jgrids_voxel_grid_is_the_published_one():
    x = np.arange(100) / 100
    found = gtk(Grid(GridIndex(1, [30]), InterpolationKernel(), 1), x[:96, None])
    phi = published.voxel_grid(x[:96], 30)
    np.testing.assert_allclose(found, phi @ phi.T, atol=1e-5)


def test_eigenvalues_by_lanczos():
    grid, x, kernel, _ = small_grid()
    np.testing.assert_allclose(
        largest_eigenvalues(SparseDesign(grid, x).rows[0], 6),
        np.linalg.eigvalsh(kernel)[:-7:-1],
        rtol=1e-9,
    )


def test_rates_of_bands():
    """A periodic kernel has its Fourier modes as eigenvectors: the rate of a band lies among the
    eigenvalues of its frequencies."""
    edges = (0.4, 0.6)
    n = 12
    noise = band_noise(n, n, edges, 3).T.reshape(3, n, n)
    frequency = 2 * np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n))
    energy = (np.abs(np.fft.fft2(noise)) ** 2).sum(0)
    inside = (edges[0] <= frequency) & (frequency < edges[1])
    assert energy[~inside].max() < 1e-20 < energy[inside].min()
    blur = 1 / (1 + frequency)  # eigenvalues of a symmetric root of the kernel

    class Blurring:
        @staticmethod
        def adjoint(v):
            return np.fft.ifft2(np.fft.fft2(v.T.reshape(-1, n, n)) * blur).real.reshape(-1, n * n).T

    low, high = band_eigenvalues(Blurring, n, n, [(0.05, 0.3), edges], 3)
    assert blur[inside].min() ** 2 <= high <= blur[inside].max() ** 2 < low
