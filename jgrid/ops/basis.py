"""Window profiles and Fourier features: the functions of an offset that kernels are made of."""

import jittor as jt
import numpy as np
from typing_extensions import Literal

Profile = Literal["nearest", "linear", "smooth"]


def _nearest(u: jt.Var) -> jt.Var:
    return ((u > -0.5) & (u <= 0.5)).float32()  # of the two nodes around a point exactly one counts


def _linear(u: jt.Var) -> jt.Var:
    a = jt.abs(u)
    return (1.0 - a) * (a <= 1.0)  # scattered nodes can be farther away than a cell's corners


def _smooth(u: jt.Var) -> jt.Var:
    a = jt.abs(u)
    # the hat run through smoothstep: its gradient is continuous
    return (1.0 - a * a * (3.0 - 2.0 * a)) * (a <= 1.0)


PROFILES = {"nearest": _nearest, "linear": _linear, "smooth": _smooth}


def window(profile: Profile, offset: jt.Var) -> jt.Var:
    """prod_d profile(offset_d), offsets in cells, nothing beyond [-1, 1]: (..., D) -> (...); a
    cell's corners sum to one."""
    value = PROFILES[profile](offset)
    result = value[..., 0]
    for axis in range(1, offset.shape[-1]):
        result = result * value[..., axis]
    return result


def fourier_octaves(x: jt.Var, octaves: int) -> jt.Var:
    """gamma(x) = [sin(pi 2^k x), cos(pi 2^k x)], k < octaves (the paper's eq. 6).

    x (..., D) -> (..., 2 D octaves): octave by octave, the sines of all axes, then their cosines.
    """
    waves = []
    for k in range(octaves):
        angle = x * float(np.pi * 2**k)
        waves += [jt.sin(angle), jt.cos(angle)]
    return jt.concat(waves, dim=-1)
