"""The grids again in numpy, written as loops over points, levels, corners and channels, straight
from the formulas."""

import itertools
import math

import numpy as np

PRIMES = (1, 2654435761, 805459861)


def profile(name, u):
    a = abs(u)
    return {
        "nearest": 1.0 if -0.5 < u <= 0.5 else 0.0,
        "linear": max(0, 1 - a),
        "smooth": 1 - 3 * a**2 + 2 * a**3 if a < 1 else 0,
    }[name]


def warped(x, warps):
    """FourierGrid's bands of the point x: itself and, for each octave, (1 + sin) / 2 and (1 + cos)
    / 2."""
    return [x] + [(f(np.pi * 2**k * x) + 1) / 2 for k in range(warps) for f in (np.sin, np.cos)]


def nearest_nodes(x, places, k):
    """One level: the rows of the k places nearest to x, and the offsets in each one's distance to
    its k-th neighbour."""
    nodes = sorted(range(len(places)), key=lambda i: math.dist(np.clip(x, 0, 1), places[i]))[:k]
    spacing = [sorted(math.dist(places[i], p) for p in places)[k] for i in nodes]
    return [
        [
            (i, [float(a) for a in (np.clip(x, 0, 1) - places[i]) / h])
            for i, h in zip(nodes, spacing)
        ]
    ]


def hashed(corner, size):
    """The slot of a corner: Instant-NGP's hash, or, in the plane, a share of a table that is no
    power of two."""
    if len(corner) == 2 and not math.log2(size).is_integer():
        part = corner[0] * (2**32 // size + 1) + corner[1] * PRIMES[1]
        return (part % 2**32) * size // 2**32
    slot = 0
    for c, prime in zip(corner, PRIMES):
        slot ^= (c * prime) % 2**32
    return slot % size


def active_nodes(x, cells, table_size, warps=0, steps=None):
    """For each level the rows and offsets of the corners of the cell of the point x, in the
    precision of x.

    steps: of each level that is folded by a lattice; None where they are hashed."""
    first = 0
    levels = []
    x = np.clip(np.asarray(x), 0, 1)
    points = warped(x, warps) if warps else [x] * len(cells)
    for level, (x, shape) in enumerate(zip(points, cells)):
        dense = math.prod(int(c) + 1 for c in shape)
        size = dense if table_size is None else min(dense, table_size)
        scaled = [x[d] * x.dtype.type(c) for d, c in enumerate(shape)]
        cell = [min(int(math.floor(s)), int(c) - 1) for s, c in zip(scaled, shape)]
        nodes = []
        for bits in itertools.product((0, 1), repeat=len(shape)):
            corner = [c + b for c, b in zip(cell, bits)]
            if dense > size and steps is not None:
                slot = sum(int(a) * c for a, c in zip(steps[level], corner)) % size
            elif dense > size:
                slot = hashed(corner, size)
            else:
                slot = 0
                stride = 1
                for c, n in zip(corner, shape):
                    slot = slot + c * stride
                    stride = stride * (int(n) + 1)
            nodes.append((first + slot, [float(s) - c for s, c in zip(scaled, corner)]))
        levels.append(nodes)
        first += size
    return levels


def window(name, offset):
    return math.prod(profile(name, float(u)) for u in offset)


def gamma(octaves, offset):
    return [
        f(math.pi * 2**k * u) for k in range(octaves) for f in (math.sin, math.cos) for u in offset
    ]


def mulfa_gain(parameters, octaves, offset, position):
    """z of the multiplicative filter network, all channels, for one point and node."""
    z = np.array(gamma(octaves, offset))
    depth = sum(name.startswith("omega") for name in parameters)
    for layer in range(depth):
        z = parameters[f"linear.{layer}.weight"] @ z + parameters[f"linear.{layer}.bias"]
        z = z * np.sin(position @ parameters[f"omega.{layer}"] + parameters[f"phase.{layer}"])
    return parameters["last.weight"] @ z + parameters["last.bias"]


def radial(shape, offset):
    stretched = shape @ np.array(offset)
    return 1 / (1 + stretched @ stretched)


def grid_levels(
    x, w, active, n_levels, profile_name, octaves=0, parameters=None, positions=None, parts=1
):
    """g of each level and kernel apart, (N, L, H, C) in float64; active(point) gives rows and
    offsets of each level.

    parameters: the "shape" of radial kernels; the "mix" (L, H, P, C) of [1, gamma(u)]; or those of
    a MulFA gain, with the positions. parts: how many grids share the weight.
    """
    parameters = parameters or {}
    mix = parameters.get("mix", np.ones((n_levels, 1, 1, w.shape[1])))
    result = np.zeros((len(x), n_levels, mix.shape[1], w.shape[1]))
    for n, point in enumerate(x):
        for level, nodes in enumerate(active(point)):
            for row, offset in nodes:
                if "shape" in parameters:
                    phi = radial(parameters["shape"][row], offset) / sum(
                        radial(parameters["shape"][i], u) for i, u in nodes
                    )
                else:
                    phi = window(profile_name, offset) / parts
                if "last.weight" in parameters:
                    phi = phi * (1 + mulfa_gain(parameters, octaves, offset, positions[row]))
                basis = [1, *gamma(octaves, offset)][: mix.shape[2]]
                for kernel in range(mix.shape[1]):
                    for channel in range(w.shape[1]):
                        adapted = sum(a * b for a, b in zip(mix[level, kernel, :, channel], basis))
                        result[n, level, kernel, channel] += (
                            adapted * (phi * np.ones(w.shape[1]))[channel] * w[row, channel]
                        )
    return result
