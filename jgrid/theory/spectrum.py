"""Spectra of kernels: eigenvalues, the Fourier spectrum of a row, and how fast training learns each
band of frequencies."""

from collections.abc import Iterable
from typing import Union

from jgrid.design import AbstractDesign

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, eigsh


def largest_eigenvalues(phi: csr_matrix, count: int) -> np.ndarray:
    """The largest eigenvalues of G = Phi Phi^T for one sparse Phi (N, M), falling, by Lanczos on
    Phi^T Phi; count < M."""
    gram = LinearOperator(
        (phi.shape[1], phi.shape[1]), matvec=lambda w: phi.T @ (phi @ w), dtype=np.float64
    )
    return eigsh(gram, k=count, v0=np.ones(phi.shape[1]), return_eigenvectors=False)[::-1]


def row_spectrum(row: np.ndarray, sigma: float = 0.0) -> np.ndarray:
    """|FFT| of a kernel's row with frequency 0 in the middle, smoothed over `sigma` bins; where G
    depends on x - x', its eigenvalues."""
    magnitude = np.abs(np.fft.fftshift(np.fft.fft(row)))
    return gaussian_filter1d(magnitude, sigma) if sigma else magnitude


def band_noise(
    height: int, width: int, edges: tuple[float, float], channels: int, seed: int = 0
) -> np.ndarray:
    """White noise in a ring of frequencies: edges (low, high) in parts of the highest frequency,
    1/2 wave a pixel; (H W, C)."""
    frequency = 2 * np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    ring = (edges[0] <= frequency) & (frequency < edges[1])
    noise = np.random.default_rng(seed).normal(size=(channels, height, width))
    return np.fft.ifft2(np.fft.fft2(noise) * ring).real.reshape(channels, -1).T


def band_eigenvalues(
    design: AbstractDesign,
    height: int,
    width: int,
    bands: Iterable[tuple[float, float]],
    channels: int,
    chosen: Union[slice, np.ndarray] = slice(None),
) -> list[float]:
    """v^T G v / v^T v for noise v in each band: the eigenvalue its frequencies see; after k steps
    about (1 - lr it)^k is left of them.

    design: at the `chosen` pixels of a picture, row by row; bands: (low, high) pairs as in
    `band_noise` -> one number per band, NaN where a small picture has no frequency in it.
    """
    result = []
    for edges in bands:
        v = band_noise(height, width, edges, channels)[chosen]
        energy = (v**2).sum()
        result.append((design.adjoint(v) ** 2).sum() / energy if v.any() else float("nan"))
    return result
