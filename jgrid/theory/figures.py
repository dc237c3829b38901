"""The theory's figures: each function returns a matplotlib figure and its numbers, ready for JSON.

Which kernel of MulFAGrid is shown is said in every title: the paper's literal kernel with random
parameters, a trained kernel that is frozen, or the full tangent kernel of features and kernel
together. One that starts as interpolation starts with the linear grid's.
"""

from jgrid.field import Field
from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import MulFAGainKernel, MulFAKernel, MulFALiteralKernel
from jgrid.network import MLP
from jgrid.theory import published
from jgrid.theory.bound import complexity
from jgrid.theory.dynamics import gradient_descent, predicted_outputs
from jgrid.theory.encodings import encoded_fit
from jgrid.theory.gtk import design_matrix, drift, gtk
from jgrid.theory.ntk import composed_ntk, empirical_ntk, kernel_regression
from jgrid.theory.spectrum import row_spectrum

import jittor as jt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

# cells of MulFAGrid's levels in 1-D: 100 nodes, as many parameters as the other grids have
LEVELS = (6, 13, 26, 51)
RATES = {"features": 1e-2, "kernel": 1e-2, "network": 1e-2}


def _panels(rows, columns, width=4.2, height=3.6):
    figure = Figure(figsize=(width * columns, height * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def curves(rows):
    """Predicted (lines) and, where there are any, real (marks) PSNR curves of the rows of a
    ranking, fitted and held out."""
    names = [name for name in ("psnr", "psnr_held_out") if rows[0]["predicted"][name]]
    figure, axes = _panels(1, len(names), 6, 4.4)
    marks = " (lines: predicted, dots: trained)" if "trained" in rows[0] else " (predicted)"
    for axis, name in zip(axes, names):
        for n, row in enumerate(rows):
            axis.plot(row["steps"], row["predicted"][name], color=f"C{n}", label=row["name"])
            if "trained" in row:
                axis.plot(row["steps"], row["trained"][name], "o", color=f"C{n}", markersize=4)
        axis.set(
            xscale="log",
            xlabel="steps of gradient descent",
            ylabel="PSNR (dB)",
            title=f"pixels {'trained on' if name == 'psnr' else 'held out'}{marks}",
        )
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    return figure


def _line_target(n=100):
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


def mulfa_kernels(x, steps=400):
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


def drifts(steps=100):
    """|G(t) - G(0)| / |G(0)| of the full tangent kernel of what is trained, on 25 points, for both
    optimisers."""
    x, y = _line_target(25)
    index = GridIndex(1, LEVELS)

    def decoded():
        return Field(
            Grid(index, MulFAKernel(1, len(LEVELS), 2), 2, concat=True, scale=0.1),
            MLP(2 * len(LEVELS), 1, 16, 1),
            RATES,
        )

    result = {}
    for name, make, frozen in (
        ("kernel frozen", _gain, ("kernel",)),
        ("kernel trained", _gain, ()),
        ("decoder", decoded, ()),
    ):
        for optimiser in ("gradient descent", "Adam"):
            model = make()

            def kernel(model=model, frozen=frozen):
                return sum(
                    share for group, share in empirical_ntk(model, x).items() if group not in frozen
                )

            start = kernel()
            if optimiser == "Adam":
                _adam(model, x, y, steps, frozen)
            else:
                params = [
                    p
                    for g in model.parameter_groups()
                    if g["name"] not in frozen
                    for p in g["params"]
                ]
                list(
                    gradient_descent(
                        model, x, y, 0.3 / np.linalg.eigvalsh(start)[-1], [steps], params
                    )
                )
            result[f"{name}, {optimiser}"] = drift(start, kernel())
    return result


def kernel():
    """Heat maps of tangent kernels on 100 points of a line (paper's figure; VoxelGrid and
    FourierGrid as published), and drifts."""
    x = np.arange(100) / 100
    phi = published.voxel_grid(x, 100), published.fourier_grid(x, 10, 10)
    kernels = {
        "VoxelGrid, 100 nodes": phi[0] @ phi[0].T,
        "FourierGrid, 10 bands of 10 nodes": phi[1] @ phi[1].T,
        **mulfa_kernels(x[:, None].astype(np.float32)),
    }
    figure, axes = _panels(2, 3)
    for axis, (name, k) in zip(axes, kernels.items()):
        shown = axis.imshow((k - k.min()) / np.ptp(k), cmap="viridis")
        axis.set_title(name, fontsize=9)
        figure.colorbar(shown, ax=axis, shrink=0.8)
    far = np.abs(x[:, None] - x) > 0.1
    numbers = {
        name: {
            "largest": float(k.max()),
            "trace": float(np.trace(k)),
            "energy_beyond_a_tenth": float((k[far] ** 2).sum() / (k**2).sum()),
        }
        for name, k in kernels.items()
    }
    return figure, {"kernels": numbers, "drift": drifts()}


def spectrum():
    """|FFT| of the first row of each kernel, smoothed over two bins, as the published script does;
    VoxelGrid's is flat there because its points are its nodes, so that G is the identity."""
    x = np.arange(100) / 100
    phi = {
        "VoxelGrid": published.voxel_grid(x, 100),
        **{f"FourierGrid, l = {m}": published.fourier_grid(x, 10, 2 * m) for m in (1, 5, 10)},
    }
    kernels = {
        **{name: p @ p.T for name, p in phi.items()},
        **mulfa_kernels(x[:, None].astype(np.float32)),
    }
    figure, axes = _panels(1, 2, 6, 4.6)
    omega = np.linspace(-np.pi, np.pi, 100, endpoint=False)
    numbers = {}
    for name, k in kernels.items():
        values = row_spectrum(k[0], 2)
        eigenvalues = np.maximum(np.linalg.eigvalsh(k)[::-1], 0)
        axes[0].semilogy(omega, values, label=name)
        axes[1].semilogy(np.maximum(eigenvalues / eigenvalues.sum(), 1e-9))
        high = values[np.abs(omega) > np.pi / 2]
        numbers[name] = {
            "peak": float(values.max()),
            "least": float(values.min()),
            "high_half_mean": float(high.mean()),
            "high_half_over_peak": float(high.mean() / values.max()),
            "rank_of_99_percent": int(
                np.searchsorted(np.cumsum(eigenvalues) / eigenvalues.sum(), 0.99) + 1
            ),
            "rank": int((eigenvalues > 1e-12 * eigenvalues[0]).sum()),
        }
    axes[0].set(xlabel="frequency", ylabel="|FFT| of the kernel's first row")
    axes[1].set(xlabel="rank", ylabel="eigenvalue / trace")
    axes[0].legend(fontsize=7)
    return figure, numbers


def bound():
    """Two-point maps of Delta over label pairs, VoxelGrid minus the other, each over its own
    maximum (published), and scale-fair."""
    points, (y1, y2) = np.array([0, 0.5]), published.label_pairs()
    kernels = {"FourierGrid": [published.fourier_grid(points, 10, 10)], "MulFAGrid": []}
    for seed in range(20):
        jt.set_global_seed(seed)
        np.random.seed(seed)
        kernels["MulFAGrid"].append(
            design_matrix(_literal(), points[:, None].astype(np.float32))[0].toarray()
        )
    voxel = published.two_point_map(published.voxel_grid(points, 10))
    figure, axes = _panels(2, 2, 4.6, 4)
    numbers = {"VoxelGrid": {"largest": float(voxel.max())}}
    opposite = y1 * y2 < 0
    for row, (name, phis) in enumerate(kernels.items()):
        differences = []
        fair = []
        for phi in phis:
            other = published.two_point_map(phi)
            traces = (2.0, (phi**2).sum())
            differences.append(voxel / voxel.max() - other / other.max())
            fair.append(np.sqrt(voxel * traces[0]) / 2 - np.sqrt(other * traces[1]) / 2)
        titles = (f"Delta / max: VoxelGrid - {name}", f"sqrt(Delta tr G) / n: VoxelGrid - {name}")
        for axis, values, title in zip(axes[2 * row :], (differences[0], fair[0]), titles):
            shown = axis.imshow(
                values, origin="lower", extent=(y1[0, 0], y1[0, -1]) * 2, cmap="viridis"
            )
            axis.set_title(
                title + (", literal random kernel" if name == "MulFAGrid" else ""), fontsize=7
            )
            axis.set(xlabel="y1", ylabel="y2")
            figure.colorbar(shown, ax=axis, shrink=0.8)
        numbers[name] = {
            "kernels": len(phis),
            "difference_least": float(differences[0].min()),
            "difference_largest": float(differences[0].max()),
            "difference_mean": float(differences[0].mean()),
            "share_lower_over_own_maximum": float(np.mean(np.array(differences) > 0)),
            "share_lower_fair": float(np.mean(np.array(fair) > 0)),
            "share_lower_fair_like_signs": float(np.mean(np.array(fair)[:, ~opposite] > 0)),
            "share_lower_fair_unlike_signs": float(np.mean(np.array(fair)[:, opposite] > 0)),
        }
    return figure, numbers


def regression(starts=10):
    """The published 1-D regression: Bessel's J_1, 7 points of 28 trained through a sigmoid by Adam,
    lr 1, 150 steps; and the kernels' own regression, without training. Errors are means over
    `starts` draws of the features, the first one is drawn."""
    x, y, chosen = published.bessel_regression()
    rest = np.setdiff1d(np.arange(28), chosen)
    phis = {
        "VoxelGrid, 30 nodes": published.voxel_grid(x, 30),
        "FourierGrid, 3 bands of 10 nodes": published.fourier_grid(x, 10, 3) / 3,
        "MulFAGrid, literal random kernel, frozen": (
            design_matrix(_literal(), x[:, None].astype(np.float32))[0].toarray()
        ),
    }
    figure, axes = _panels(1, 2, 6, 4.4)
    numbers = {}
    for n, (name, phi) in enumerate(phis.items()):
        trained = np.stack([_sigmoid_fit(phi, y, chosen) for _ in range(starts)])
        untrained = kernel_regression(phi[chosen] @ phi[chosen].T, phi @ phi[chosen].T, y[chosen])
        numbers[name] = {
            "mse_trained_points": float(np.mean((trained - y)[:, chosen] ** 2)),
            "mse_others": float(np.mean((trained - y)[:, rest] ** 2)),
            "mse_others_by_start": np.mean((trained - y)[:, rest] ** 2, axis=1).tolist(),
            "kernel_regression_mse_others": float(np.mean((untrained - y)[rest] ** 2)),
            "delta": float(complexity(phi[chosen] @ phi[chosen].T, y[chosen, None]).delta[0]),
        }
        for axis, values in zip(axes, (trained[0], untrained)):
            axis.plot(x, values, color=f"C{n}", label=name)
    for axis, title in zip(axes, ("trained: sigmoid, Adam", "kernel regression, no training")):
        axis.plot(x, y, "k:", label="target")
        axis.plot(x[chosen], y[chosen], "ko", markersize=4, label="trained on")
        axis.set(title=title, xlabel="x", ylim=(-0.5, 1.5))
        axis.legend(fontsize=7)
    return figure, numbers


def _sigmoid_fit(phi, y, chosen):
    """sigmoid(Phi w) after 150 steps of Adam on the chosen points, w uniform in [0, 1] at the
    start."""
    w = jt.rand((phi.shape[1], 1))
    optimizer = jt.optim.Adam([w], lr=1.0)
    features = jt.array(phi.astype(np.float32))
    wanted = jt.array(y[chosen, None].astype(np.float32))
    for _ in range(150):
        optimizer.step(((jt.sigmoid(features[jt.array(chosen)] @ w) - wanted) ** 2).sum())
    return jt.sigmoid(features @ w).numpy()[:, 0]


def text_picture(size=400):
    """Lines of text on grey, (size, size, 1): fine detail everywhere."""
    image = Image.new("L", (size, size), 235)
    draw = ImageDraw.Draw(image)
    words = (
        "A field maps a point to a colour. A grid keeps features at its nodes and a kernel weighs"
        " them. ".split()
    )
    line = []
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
    j = np.arange(1, 17.0)
    return np.where(j == 1, 1.0, 0.0) if np.isinf(p) else j**-p


def _modes(p, steps, width=1024):
    """Predicted and observed residual of each frequency of a wide MLP on 32 points of a line, (2,
    S, 17) over the first."""
    x = np.arange(32)[:, None] / 32
    b = np.arange(1, 17.0)[:, None]
    a = _harmonics(p)
    angle = 2 * np.pi * x @ b.T
    features = np.concatenate([np.sin(angle), np.cos(angle)], axis=1) * np.tile(
        a / np.linalg.norm(a), 2
    )
    model = MLP(32, 1, width, 3)
    for layer in model.layers:
        layer.weight = jt.array(
            (
                np.random.normal(size=tuple(layer.weight.shape)) / np.sqrt(layer.weight.shape[1])
            ).astype(np.float32)
        )
    y = np.fft.ifft(
        (np.random.normal(size=32) + 1j * np.random.normal(size=32))
        / np.maximum(np.abs(np.fft.fftfreq(32, 1 / 32)), 1)
    ).real
    y = ((y - y.min()) / np.ptp(y) - 0.5)[:, None]
    k = composed_ntk(x, x, 4, width, b, a)
    lr = 0.2 / np.linalg.eigvalsh(k)[-1]
    inputs = jt.array(features.astype(np.float32))
    start = model(inputs).numpy().astype(np.float64)
    predicted = predicted_outputs(k, y, lr, steps, start)
    observed = [
        model(inputs).numpy()
        for _ in gradient_descent(model, features, y, lr, steps, list(model.parameters()))
    ]
    first, *left = (
        np.abs(np.fft.fft(v[:, 0]))[:17]
        for v in (start - y, *(predicted - y), *(np.array(observed) - y))
    )
    return np.array(left).reshape(2, len(steps), 17) / first


def fourier(pixels=None, steps=1500):
    """Fourier features (Tancik et al. 2020): spectral bias over bandwidth, predicted and observed
    residuals, encodings on a picture.

    pixels (H, W, C): trained on [::2, ::2], tested on [1::2, 1::2]; a 3 x 128 MLP with a sigmoid on
    128 frequencies, Adam 1e-3, batches of 4096.
    """
    pixels = text_picture() if pixels is None else pixels
    figure, axes = _panels(1, 3, 5, 4.4)
    checks = [50, 100, 200, 400]
    numbers = {"spectrum": {}, "modes": {}, "picture": {}}
    x = np.arange(32)[:, None] / 32
    b = np.arange(1, 17.0)[:, None]
    for n, p in enumerate((0, 1, np.inf)):
        values = row_spectrum(composed_ntk(x, x, 4, 1024, b, _harmonics(p))[0])
        axes[0].semilogy(np.arange(-16, 16), values, label=f"a = j^-{p}")
        numbers["spectrum"][f"p = {p}"] = [float(v) for v in values[16:]]
        predicted, observed = _modes(p, checks)
        axes[1].semilogy(
            range(16), predicted[-1, :16], color=f"C{n}", label=f"a = j^-{p}, predicted"
        )
        axes[1].semilogy(
            range(16), observed[-1, :16], "o", color=f"C{n}", label=f"a = j^-{p}, observed"
        )
        numbers["modes"][f"p = {p}"] = {
            "steps": checks,
            "predicted": predicted.tolist(),
            "observed": observed.tolist(),
        }
    axes[0].set(title="composed NTK: spectrum by bandwidth", xlabel="frequency")
    axes[1].set(
        title=f"residual after {checks[-1]} steps, 4 x 1024 MLP",
        xlabel="frequency",
        ylabel="of the first",
        ylim=(1e-4, 3),
    )
    for name, encoding, sigma in (
        ("none", "none", 0),
        ("basic", "basic", 0),
        ("positional", "log-linear", 5),
        ("gaussian 1", "gaussian", 1),
        ("gaussian 14", "gaussian", 14),
        ("gaussian 60", "gaussian", 60),
    ):
        numbers["picture"][name] = encoded_fit(pixels, encoding, sigma, steps)
    axes[2].barh(list(numbers["picture"]), list(numbers["picture"].values()))
    axes[2].invert_yaxis()
    axes[2].set(title=f"test PSNR (dB) on a picture, {steps} steps of Adam", xlim=(8, None))
    for axis in axes[:2]:
        axis.legend(fontsize=7)
    return figure, numbers
