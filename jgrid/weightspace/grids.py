"""Zoos of grid fields: MulFAGrid with one level and a decoder, thousands at once, and the space of
their weights."""

from collections.abc import Sequence

from jgrid.index import GridIndex
from jgrid.kernel import MulFAKernel
from jgrid.weightspace.fits import Advance, FitConfig, psnr, relu_networks, train
from jgrid.weightspace.space import WeightSpace, mlp_space
from jgrid.weightspace.subjects import Pictures
from jgrid.weightspace.zoo import AbstractSubject, Fitted

import jittor as jt
import numpy as np
from numpy.random import Generator

# what the names of a part's tensors begin with
PARTS = {"features": ("features",), "kernel": ("kernel",), "decoder": ("W", "b")}


def grid_space(
    nodes: int, functions: int, channels: int, hidden: Sequence[int], n_out: int
) -> WeightSpace:
    """The space of a grid field: features (M, C), kernel (1 + P, C), decoder C, d_1, ..., n_out.

    The channels are a hidden axis too: features, kernel and the decoder's columns may be permuted
    together."""
    channel = ("channel", channels)
    (first, (rows, _)), *decoder = mlp_space((channels, *hidden, n_out)).tensors
    own = (
        ("features", ((None, nodes), channel)),
        ("kernel", ((None, functions), channel)),
        (first, (rows, channel)),
    )
    return WeightSpace((*own, *decoder))


class GridPictures(AbstractSubject):
    """Pictures as MulFAGrids of cells x cells and `channels` features, each
    with its own kernel and decoder."""

    activation = "relu"
    quality = "psnr"

    def __init__(self, pictures: Pictures, cells: int = 4, channels: int = 6):
        self.config = {**pictures.config, "kind": "grids", "cells": cells, "channels": channels}
        self.pictures = pictures
        self.most = len(pictures)
        self.test = pictures.test
        self.channels = channels
        self.index = GridIndex(2, [cells])
        self.basis = basis_values(self.index, (pictures.points + 1) / 2)

    def space(self, config: FitConfig) -> WeightSpace:
        functions, _, nodes = self.basis.shape
        return grid_space(
            nodes, functions, self.channels, config.neurons, self.pictures.pixels.shape[-1]
        )

    def fit(
        self, first: int, last: int, config: FitConfig, rng: Generator, advance: Advance
    ) -> Fitted:
        space = self.space(config)
        n = last - first
        targets, labels = self.pictures.targets(first, last)
        weights = {name: np.zeros((n, *(size for _, size in axes))) for name, axes in space.tensors}
        weights["features"] = rng.uniform(-1e-2, 1e-2, weights["features"].shape)
        weights["kernel"] = rng.standard_normal(weights["kernel"].shape)
        for name in weights:
            if name.startswith("W"):
                bound = np.sqrt(6 / weights[name].shape[2])
                weights[name] = rng.uniform(-bound, bound, weights[name].shape)
        parameters = [jt.array(value.astype(np.float32)) for value in weights.values()]
        basis = jt.array(self.basis).stop_grad()
        values = jt.array(targets).stop_grad()

        def errors() -> jt.Var:
            return ((grids(basis, *parameters) - values) ** 2).mean(2).mean(1)

        train(errors, parameters, config, advance)
        return {name: p.numpy() for name, p in zip(weights, parameters)}, labels, psnr(errors())


def basis_values(index: GridIndex, x: np.ndarray) -> np.ndarray:
    """window(u) [1, gamma(u)]_p of every point and node of an index with one level: x (N, D) in [0,
    1] -> (1 + P, N, M)."""
    functions = 1 + 2 * index.dim
    kernel = MulFAKernel(index.dim, 1, functions)
    # a channel for each function
    kernel.mix.assign(np.eye(functions, dtype=np.float32)[None, None])
    points = jt.array(x)
    node, offset = index(points)
    phi = kernel(points, node, offset).numpy()[:, :, 0]
    values = np.zeros((functions, len(x), index.n_nodes), np.float32)
    node = node.numpy()
    for k in range(node.shape[1]):
        values[:, np.arange(len(x)), node[:, k]] += phi[:, k].T
    return values


def grids(basis: jt.Var, features: jt.Var, kernel: jt.Var, *decoder: jt.Var) -> jt.Var:
    """decoder(g(x)), g_c(x) = sum_i sum_p kernel_pc basis_pi(x) features_ic, of F fields: basis (1
    + P, N, M), features (F, M, C), kernel (F, 1 + P, C) -> (F, N, n_out)."""
    functions, points, nodes = basis.shape
    fields, _, channels = features.shape
    sums = basis.reshape(-1, nodes) @ features.transpose(1, 0, 2).reshape(nodes, -1)
    mix = kernel.transpose(1, 0, 2).unsqueeze(1)
    sums = sums.reshape(functions, points, fields, channels) * mix
    return relu_networks(sums.sum(0).transpose(1, 0, 2), *decoder)
