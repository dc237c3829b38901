"""The grids again in numpy, written as loops over points, levels, corners and channels, straight from the formulas."""
import itertools
import math

import numpy as np

PRIMES = (1, 2654435761, 805459861)


def profile(name, u):
    a = abs(u)
    return {"nearest": 1.0 if -0.5 < u <= 0.5 else 0.0, "linear": 1 - a, "smooth": 1 - 3 * a**2 + 2 * a**3}[name]


def active_nodes(x, cells, table_size):
    """For each level the rows and offsets of the corners of the cell of the point x."""
    first, levels = 0, []
    for shape in cells:
        dense = math.prod(c + 1 for c in shape)
        size = dense if table_size is None else min(dense, table_size)
        cell = [min(int(math.floor(np.float32(t) * np.float32(c))), c - 1) for t, c in zip(x, shape)]
        nodes = []
        for bits in itertools.product((0, 1), repeat=len(shape)):
            corner = [c + b for c, b in zip(cell, bits)]
            if dense > size:
                slot = 0
                for c, prime in zip(corner, PRIMES):
                    slot ^= (c * prime) % 2**32
                slot %= size
            else:
                slot, stride = 0, 1
                for c, n in zip(corner, shape):
                    slot, stride = slot + c * stride, stride * (n + 1)
            nodes.append((first + slot, [np.float32(t) * np.float32(n) - c for t, n, c in zip(x, shape, corner)]))
        levels.append(nodes)
        first += size
    return levels


def window(name, offset):
    return math.prod(profile(name, float(u)) for u in offset)


def mulfa_gain(parameters, octaves, offset, position):
    """z of the multiplicative filter network, all channels, for one point and node."""
    z = np.array([f(math.pi * 2**k * u) for k in range(octaves) for f in (math.sin, math.cos) for u in offset])
    depth = sum(name.startswith("omega") for name in parameters)
    for layer in range(depth):
        z = parameters[f"linear.{layer}.weight"] @ z + parameters[f"linear.{layer}.bias"]
        z = z * np.sin(position @ parameters[f"omega.{layer}"] + parameters[f"phase.{layer}"])
    return parameters["last.weight"] @ z + parameters["last.bias"]
