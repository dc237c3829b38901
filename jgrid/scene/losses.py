"""Losses of a radiance field besides that of its colours."""

import jittor as jt

SEEN = 0.5  # opacity from which a ray has a depth


def entropy(opacity: jt.Var) -> jt.Var:
    """The mean of - o log o - (1 - o) log(1 - o) over opacities o (R, 1): a scalar (DVGO)."""
    o = jt.clamp(opacity, 1e-5, 1 - 1e-5)
    return -(o * jt.log(o) + (1 - o) * jt.log(1 - o)).mean()


def sparsity(tau: jt.Var) -> jt.Var:
    """log(1 + 2 tau^2) of optical depths tau (S,): (S,) (Plenoxels)."""
    return jt.log(1.0 + 2.0 * tau**2)


def squeezed(t: jt.Var) -> jt.Var:
    """Lengths t (N,) along rays, in sides of a contracted cube, as finite ones: 1 - 1/(4t) beyond
    1/2."""
    return jt.minimum(t, 1.0 - 0.25 / jt.maximum(t, 0.5))


def depth(length: jt.Var, opacity: jt.Var, known: jt.Var, contracted: bool) -> jt.Var:
    """The mean over R rays of (t / o - k)^2, of those that are known and seen, k > 0 and o > 1/2
    (DS-NeRF); 0 of the others.

    length: t, the expected one times the opacity, opacity: o, known: k, each (R,), in sides of the
    cube; contracted: t / o and k as `squeezed`."""
    expected = length / jt.maximum(opacity, SEEN)
    if contracted:
        expected = squeezed(expected)
        known = squeezed(known)
    counts = jt.logical_and(known > 0, opacity > SEEN).float32().stop_grad()
    return (counts * (expected - known) ** 2).mean()
