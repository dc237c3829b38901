"""The theory's figures: each function returns a matplotlib figure and its numbers, ready for JSON.

Which kernel of MulFAGrid is shown is said in every title: the paper's literal kernel with random
parameters, a trained kernel that is frozen, or the full tangent kernel of features and kernel
together. One that starts as interpolation starts with the linear grid's.
"""

from typing import Any, Optional

from jgrid.design import design_matrix
from jgrid.field import Field
from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import MulFAGainKernel, MulFAKernel, MulFALiteralKernel
from jgrid.network import MLP
from jgrid.picture import subplots
from jgrid.theory import published
from jgrid.theory.bounds import complexity
from jgrid.theory.dynamics import gradient_descent, predicted_outputs
from jgrid.theory.encodings import encoded_fit
from jgrid.theory.kernels import composed_ntk, drift, empirical_ntk, gtk, kernel_regression
from jgrid.theory.spectrum import row_spectrum

import jittor as jt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

# cells of MulFAGrid's levels in 1-D: 100 nodes, as many parameters as the other grids have
LEVELS = (6, 13, 26, 51)
RATES = {"features": 1e-2, "kernel": 1e-2, "network": 1e-2}

# of the figure of Fourier features: points and frequencies of its 1-D part, and the steps checked
LINE = np.arange(32)[:, None] / 32
FREQUENCIES = np.arange(1, 17.0)[:, None]
CHECKS = [50, 100, 200, 400]
# name: kind and standard deviation
ENCODINGS = {
    "none": ("none", 0),
    "basic": ("basic", 0),
    "positional": ("log-linear", 5),
    "gaussian 1": ("gaussian", 1),
    "gaussian 14": ("gaussian", 14),
    "gaussian 60": ("gaussian", 60),
}

Drawn = tuple[Figure, dict[str, Any]]


def curves(rows: list[dict[str, Any]]) -> Figure:
    """Predicted (lines) and, where there are any, real (dots) PSNR curves of the rows of a
    ranking, fitted and held out."""
    names = [name for name in ("psnr", "psnr_held_out") if rows[0]["predicted"][name]]
    places = {"psnr": "pixels trained on", "psnr_held_out": "pixels held out"}
    marks = "(lines: predicted, dots: trained)" if "trained" in rows[0] else "(predicted)"
    figure, (axes,) = subplots(1, len(names), 6, 4.4)
    for axis, name in zip(axes, names):
        for n, row in enumerate(rows):
            axis.plot(row["steps"], row["predicted"][name], color=f"C{n}", label=row["name"])
            if "trained" in row:
                axis.plot(row["steps"], row["trained"][name], "o", color=f"C{n}", markersize=4)
        axis.set(
            title=f"{places[name]} {marks}",
            xscale="log",
            xlabel="steps of gradient descent",
            ylabel="PSNR (dB)",
        )
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    return figure


def _line_target(n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(n, dtype=np.float32)[:, None] / n
    return x, np.sin(6 * x) * 0.5 + 0.3 * np.sin(50 * x * x)


def _adam(model, x, y, steps, frozen=()):
    """Train on 1/2 sum of squares by Adam; `frozen` names parameter groups that stay."""
    groups = [g for g in model.parameter_groups() if g["name"] not in frozen]
    optimizer = jt.optim.Adam(groups, lr=1e-2)
    x = jt.array(x)
    y = jt.array(y.astype(np.float32))
    for _ in range(steps):
        optimizer.step(0.5 * ((model(x) - y) ** 2).sum())


def _literal():
    index = GridIndex(1, LEVELS)
    return Grid(index, MulFALiteralKernel(index.positions(), len(LEVELS)), 1, scale=0.1)


def _gain():
    index = GridIndex(1, LEVELS)
    return Field(
        Grid(index, MulFAGainKernel(index.positions(), 1, octaves=2), 1, scale=0.1), None, RATES
    )


def mulfa_kernels(x: np.ndarray, steps: int = 400) -> dict[str, np.ndarray]:
    """{which kernel: G} of MulFAGrid in 1-D, where the gain's kernel and features were trained on a
    chirp by Adam."""
    at_start = gtk(_gain().grid, x)
    model = _gain()
    _adam(model, *_line_target(), steps)
    shares = empirical_ntk(model, x)
    return {
        "MulFAGrid, literal random kernel": gtk(_literal(), x),
        "MulFAGrid, kernel at its start = linear grid": at_start,
        "MulFAGrid, trained kernel, frozen": shares["features"],
        "MulFAGrid, trained, full tangent kernel": shares["features"] + shares["kernel"],
    }


def _decoded():
    index = GridIndex(1, LEVELS)
    grid = Grid(index, MulFAKernel(1, len(LEVELS), 2), 2, concat=True, scale=0.1)
    return Field(grid, MLP(2 * len(LEVELS), 1, 16, 1), RATES)


def drifts(steps: int = 100) -> dict[str, float]:
    """|G(t) - G(0)| / |G(0)| of the full tangent kernel of what is trained, on 25 points, for both
    optimisers."""
    result = {}
    for name, make, frozen in (
        ("kernel frozen", _gain, ("kernel",)),
        ("kernel trained", _gain, ()),
        ("decoder", _decoded, ()),
    ):
        for optimiser, train in (("gradient descent", _descend), ("Adam", _adam)):
            result[f"{name}, {optimiser}"] = _drift(make(), train, steps, frozen)
    return result


def _drift(model, train, steps, frozen):
    """The drift of the tangent kernel of all parameter groups but the frozen ones."""
    x, y = _line_target(25)
    start = _moving_ntk(model, x, frozen)
    train(model, x, y, steps, frozen)
    return drift(start, _moving_ntk(model, x, frozen))


def _moving_ntk(model, x, frozen):
    return sum(share for group, share in empirical_ntk(model, x).items() if group not in frozen)


def _descend(model, x, y, steps, frozen=()):
    """Full-batch gradient descent at 0.3 / lambda_max."""
    groups = [g for g in model.parameter_groups() if g["name"] not in frozen]
    params = [p for g in groups for p in g["params"]]
    lr = 0.3 / np.linalg.eigvalsh(_moving_ntk(model, x, frozen))[-1]
    list(gradient_descent(model, x, y, lr, [steps], params))


def _heat_map(figure, axis, values, title, fontsize, **options):
    shown = axis.imshow(values, cmap="viridis", **options)
    axis.set_title(title, fontsize=fontsize)
    figure.colorbar(shown, ax=axis, shrink=0.8)


def kernel() -> Drawn:
    """Heat maps of tangent kernels on 100 points of a line (paper's figure; VoxelGrid and
    FourierGrid as published), and drifts."""
    x = np.arange(100) / 100
    voxel = published.voxel_grid(x, 100)
    fourier = published.fourier_grid(x, 10, 10)
    kernels = {
        "VoxelGrid, 100 nodes": voxel @ voxel.T,
        "FourierGrid, 10 bands of 10 nodes": fourier @ fourier.T,
        **mulfa_kernels(x[:, None].astype(np.float32)),
    }
    figure, axes = subplots(2, 3)
    axes = axes.ravel()
    numbers = {}
    far = np.abs(x[:, None] - x) > 0.1
    for axis, (name, k) in zip(axes, kernels.items()):
        _heat_map(figure, axis, (k - k.min()) / np.ptp(k), name, fontsize=9)
        numbers[name] = {
            "largest": float(k.max()),
            "trace": float(np.trace(k)),
            "energy_beyond_a_tenth": float((k[far] ** 2).sum() / (k**2).sum()),
        }
    return figure, {"kernels": numbers, "drift": drifts()}


def spectrum() -> Drawn:
    """|FFT| of the first row of each kernel, smoothed over two bins, as the published script does;
    VoxelGrid's is flat there because its points are its nodes, so that G is the identity."""
    x = np.arange(100) / 100
    designs = {"VoxelGrid": published.voxel_grid(x, 100)}
    for octaves in (1, 5, 10):
        designs[f"FourierGrid, l = {octaves}"] = published.fourier_grid(x, 10, 2 * octaves)
    kernels = {
        **{name: phi @ phi.T for name, phi in designs.items()},
        **mulfa_kernels(x[:, None].astype(np.float32)),
    }
    figure, (axes,) = subplots(1, 2, 6, 4.6)
    omega = np.linspace(-np.pi, np.pi, 100, endpoint=False)
    numbers = {}
    for name, k in kernels.items():
        values = row_spectrum(k[0], 2)
        eigenvalues = np.maximum(np.linalg.eigvalsh(k)[::-1], 0)
        shares = eigenvalues / eigenvalues.sum()
        axes[0].semilogy(omega, values, label=name)
        axes[1].semilogy(np.maximum(shares, 1e-9))
        high = values[np.abs(omega) > np.pi / 2].mean()
        numbers[name] = {
            "peak": float(values.max()),
            "least": float(values.min()),
            "high_half_mean": float(high),
            "high_half_over_peak": float(high / values.max()),
            "rank_of_99_percent": _rank_of(0.99, eigenvalues),
            "rank": int((eigenvalues > 1e-12 * eigenvalues[0]).sum()),
        }
    axes[0].set(xlabel="frequency", ylabel="|FFT| of the kernel's first row")
    axes[1].set(xlabel="rank", ylabel="eigenvalue / trace")
    axes[0].legend(fontsize=7)
    return figure, numbers


def _rank_of(share, eigenvalues):
    """How many of the largest eigenvalues make up a share of the trace."""
    return int(np.searchsorted(np.cumsum(eigenvalues) / eigenvalues.sum(), share) + 1)


def bound() -> Drawn:
    """Two-point maps of Delta over label pairs, VoxelGrid minus the other, each over its own
    maximum (published), and scale-fair."""
    points = np.array([0, 0.5])
    designs = {
        "FourierGrid": [published.fourier_grid(points, 10, 10)],
        "MulFAGrid": [_literal_design(points, seed) for seed in range(20)],
    }
    voxel = published.two_point_map(published.voxel_grid(points, 10))
    figure, axes = subplots(2, 2, 4.6, 4)
    axes = axes.ravel()
    numbers = {"VoxelGrid": {"largest": float(voxel.max())}}
    for row, (name, phis) in enumerate(designs.items()):
        differences, fair = (np.array(maps) for maps in zip(*(_over(voxel, phi) for phi in phis)))
        pair = f"VoxelGrid - {name}" + (", literal random kernel" if name == "MulFAGrid" else "")
        titles = (f"Delta / max: {pair}", f"sqrt(Delta tr G) / n: {pair}")
        for axis, maps, title in zip(axes[2 * row :], (differences, fair), titles):
            _two_point_panel(figure, axis, maps[0], title)
        y1, y2 = published.label_pairs()
        unlike = y1 * y2 < 0
        numbers[name] = {
            "kernels": len(phis),
            "difference_least": float(differences[0].min()),
            "difference_largest": float(differences[0].max()),
            "difference_mean": float(differences[0].mean()),
            "share_lower_over_own_maximum": float(np.mean(differences > 0)),
            "share_lower_fair": float(np.mean(fair > 0)),
            "share_lower_fair_like_signs": float(np.mean(fair[:, ~unlike] > 0)),
            "share_lower_fair_unlike_signs": float(np.mean(fair[:, unlike] > 0)),
        }
    return figure, numbers


def _literal_design(points, seed):
    jt.set_global_seed(seed)
    np.random.seed(seed)
    return design_matrix(_literal(), points[:, None].astype(np.float32))[0].toarray()


def _over(voxel, phi):
    """VoxelGrid's two-point map minus that of Phi: each over its own maximum, and scale-fair."""
    other = published.two_point_map(phi)
    trace = (phi**2).sum()
    fair = np.sqrt(voxel * 2.0) / 2 - np.sqrt(other * trace) / 2
    return voxel / voxel.max() - other / other.max(), fair


def _two_point_panel(figure, axis, values, title):
    y1, _ = published.label_pairs()
    extent = (y1[0, 0], y1[0, -1]) * 2
    _heat_map(figure, axis, values, title, fontsize=7, origin="lower", extent=extent)
    axis.set(xlabel="y1", ylabel="y2")


def regression(starts: int = 10) -> Drawn:
    """The published 1-D regression: Bessel's J_1, 7 points of 28 trained through a sigmoid by Adam,
    lr 1, 150 steps; and the kernels' own regression, without training. Errors are means over
    `starts` draws of the features, the first one is drawn."""
    x, y, chosen = published.bessel_regression()
    literal = design_matrix(_literal(), x[:, None].astype(np.float32))[0].toarray()
    designs = {
        "VoxelGrid, 30 nodes": published.voxel_grid(x, 30),
        "FourierGrid, 3 bands of 10 nodes": published.fourier_grid(x, 10, 3) / 3,
        "MulFAGrid, literal random kernel, frozen": literal,
    }
    figure, (axes,) = subplots(1, 2, 6, 4.4)
    numbers = {}
    for n, (name, phi) in enumerate(designs.items()):
        trained = np.stack([_sigmoid_fit(phi, y, chosen) for _ in range(starts)])
        kernel = phi[chosen] @ phi[chosen].T
        untrained = kernel_regression(kernel, phi @ phi[chosen].T, y[chosen])
        numbers[name] = _regression_errors(trained, untrained, y, chosen)
        delta = complexity(kernel, y[chosen, None]).delta[0]
        numbers[name]["delta"] = float(delta)
        axes[0].plot(x, trained[0], color=f"C{n}", label=name)
        axes[1].plot(x, untrained, color=f"C{n}", label=name)
    axes[0].set_title("trained: sigmoid, Adam")
    axes[1].set_title("kernel regression, no training")
    for axis in axes:
        axis.plot(x, y, "k:", label="target")
        axis.plot(x[chosen], y[chosen], "ko", markersize=4, label="trained on")
        axis.set(xlabel="x", ylim=(-0.5, 1.5))
        axis.legend(fontsize=7)
    return figure, numbers


def _regression_errors(trained, untrained, y, chosen):
    """Mean squared errors of the trained fits (starts, N) and of the kernel's regression (N,), on
    the chosen points and on the others."""
    rest = np.setdiff1d(np.arange(len(y)), chosen)
    of_trained = (trained - y) ** 2
    return {
        "mse_trained_points": float(np.mean(of_trained[:, chosen])),
        "mse_others": float(np.mean(of_trained[:, rest])),
        "mse_others_by_start": np.mean(of_trained[:, rest], axis=1).tolist(),
        "kernel_regression_mse_others": float(np.mean((untrained - y)[rest] ** 2)),
    }


def _sigmoid_fit(phi, y, chosen):
    """sigmoid(Phi w) after 150 steps of Adam on the chosen points, w uniform in [0, 1] at the
    start."""
    w = jt.rand((phi.shape[1], 1))
    optimizer = jt.optim.Adam([w], lr=1.0)
    features = jt.array(phi.astype(np.float32))
    target = jt.array(y[chosen, None].astype(np.float32))
    for _ in range(150):
        optimizer.step(((jt.sigmoid(features[jt.array(chosen)] @ w) - target) ** 2).sum())
    return jt.sigmoid(features @ w).numpy()[:, 0]


def text_picture(size: int = 400) -> np.ndarray:
    """Lines of text on grey, (size, size, 1): fine detail everywhere."""
    image = Image.new("L", (size, size), 235)
    draw = ImageDraw.Draw(image)
    words = (
        "A field maps a point to a colour. A grid keeps features at its nodes and a kernel weighs"
        " them. ".split()
    )
    line: list[str] = []
    row = 0
    height = size // 8
    for word in words * 3:
        font = ImageFont.load_default(height * 0.75)
        if draw.textlength(" ".join([*line, word]), font=font) > size * 0.95:
            draw.text((size * 0.03, row * height), " ".join(line), fill=20 + 12 * row, font=font)
            line = []
            row = row + 1
        line.append(word)
    return np.asarray(image, np.float32)[..., None] / 255


def _harmonics(p):
    """a_j = j^-p of the frequencies 1 .. 16."""
    j = FREQUENCIES[:, 0]
    return np.where(j == 1, 1.0, 0.0) if np.isinf(p) else j**-p


def _modes(p, steps, width=1024):
    """Predicted and observed residual of each frequency of a wide MLP on 32 points of a line, (2,
    S, 17) over the first."""
    amplitudes = _harmonics(p)
    angle = 2 * np.pi * LINE @ FREQUENCIES.T
    features = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    features = features * np.tile(amplitudes / np.linalg.norm(amplitudes), 2)
    model = MLP(32, 1, width, 3)
    for layer in model.layers:
        shape = tuple(layer.weight.shape)
        weight = np.random.normal(size=shape) / np.sqrt(shape[1])
        layer.weight = jt.array(weight.astype(np.float32))
    y = _smooth_labels()
    k = composed_ntk(LINE, LINE, 4, width, FREQUENCIES, amplitudes)
    lr = 0.2 / np.linalg.eigvalsh(k)[-1]
    inputs = jt.array(features.astype(np.float32))
    start = model(inputs).numpy().astype(np.float64)
    predicted = predicted_outputs(k, y, lr, steps, start)
    training = gradient_descent(model, features, y, lr, steps, list(model.parameters()))
    observed = np.array([model(inputs).numpy() for _ in training])

    def by_frequency(residual):  # (..., 32, 1) -> (..., 17)
        return np.abs(np.fft.fft(residual[..., 0]))[..., :17]

    left = [by_frequency(predicted - y), by_frequency(observed - y)]
    return np.array(left) / by_frequency(start - y)


def _smooth_labels():
    """Random numbers in [-0.5, 0.5] on 32 points, (32, 1), whose spectrum falls like 1 / f."""
    spectrum = np.random.normal(size=32) + 1j * np.random.normal(size=32)
    frequencies = np.abs(np.fft.fftfreq(32, 1 / 32))
    y = np.fft.ifft(spectrum / np.maximum(frequencies, 1)).real
    return ((y - y.min()) / np.ptp(y) - 0.5)[:, None]


def fourier(pixels: Optional[np.ndarray] = None, steps: int = 1500) -> Drawn:
    """Fourier features (Tancik et al. 2020): spectral bias over bandwidth, predicted and observed
    residuals, encodings on a picture.

    pixels (H, W, C): trained on [::2, ::2], tested on [1::2, 1::2]; a 3 x 128 MLP with a sigmoid on
    128 frequencies, Adam 1e-3, batches of 4096.
    """
    pixels = text_picture() if pixels is None else pixels
    figure, (axes,) = subplots(1, 3, 5, 4.4)
    numbers: dict[str, dict[str, Any]] = {"spectrum": {}, "modes": {}, "picture": {}}
    for n, p in enumerate((0, 1, np.inf)):
        amplitudes = _harmonics(p)
        values = row_spectrum(composed_ntk(LINE, LINE, 4, 1024, FREQUENCIES, amplitudes)[0])
        axes[0].semilogy(np.arange(-16, 16), values, label=f"a = j^-{p}")
        numbers["spectrum"][f"p = {p}"] = [float(v) for v in values[16:]]
        predicted, observed = _modes(p, CHECKS)
        label = f"a = j^-{p}"
        axes[1].semilogy(predicted[-1, :16], color=f"C{n}", label=f"{label}, predicted")
        axes[1].semilogy(observed[-1, :16], "o", color=f"C{n}", label=f"{label}, observed")
        numbers["modes"][f"p = {p}"] = {
            "steps": CHECKS,
            "predicted": predicted.tolist(),
            "observed": observed.tolist(),
        }
    for name, (encoding, sigma) in ENCODINGS.items():
        numbers["picture"][name] = encoded_fit(pixels, encoding, sigma, steps)
    axes[0].set(title="composed NTK: spectrum by bandwidth", xlabel="frequency")
    axes[1].set(
        title=f"residual after {CHECKS[-1]} steps, 4 x 1024 MLP",
        xlabel="frequency",
        ylabel="of the first",
        ylim=(1e-4, 3),
    )
    axes[2].barh(list(numbers["picture"]), list(numbers["picture"].values()))
    axes[2].invert_yaxis()
    axes[2].set(title=f"test PSNR (dB) on a picture, {steps} steps of Adam", xlim=(8, None))
    for axis in axes[:2]:
        axis.legend(fontsize=7)
    return figure, numbers
