"""The methods as what they were before they became networks: optimisers of a sum of functions.

A network has a module T where a method has a step along -grad f; put the step back, and the same
tableau minimises f."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Callable

from jgrid.optdnn.methods import Array, Method, outputs

import jittor as jt
import numpy as np

Gradient = Callable[[Array], Array]  # grad f at a point
Prox = Callable[[Array, Array], Array]  # prox of h g at a point, given the point and h


def iterates(
    method: Method, terms: Sequence[Callable[..., Array]], start: Array, step: float
) -> Iterator[Array]:
    """x_0, x_1, x_2, ... without end, with which a method minimises f_1(x) + ... + f_J(x).

    T_j = -step grad f_j: terms[j] is the gradient of f_j, y -> grad f_j(y), where the method is
    explicit, and its proximal map, (r, h) -> argmin_y |y - r|^2 / 2 + h f_j(y), where it is
    implicit: there y = r - h grad f_j(y). start: numpy or Jittor, of any shape. ValueError where
    there are not as many terms as the method has modules in a layer.
    """
    layer = method.tableau(0)
    if len(terms) != len(layer.U):
        raise ValueError(f"`terms` must be {len(layer.U)} for this method, got {len(terms)}")
    modules = [
        term if implicit else _descent(term, step)
        for term, implicit in zip(terms, np.diag(layer.D))
    ]
    return outputs(
        method, start, itertools.repeat(modules), lambda prox, rest, d: prox(rest, d * step)
    )


def minimise(
    method: Method, terms: Sequence[Callable[..., Array]], start: Array, step: float, steps: int
) -> Array:
    """The last of so many steps of `iterates`."""
    return next(itertools.islice(iterates(method, terms, start, step), steps, None))


def gradient(function: Callable[[jt.Var], jt.Var]) -> Gradient:
    """The gradient of a function from Jittor variables to a scalar, for `iterates`."""

    def at(y: jt.Var) -> jt.Var:
        y = y.detach().start_grad()
        return jt.grad(function(y), y)

    return at


def soft_threshold(r: Array, threshold: Array) -> Array:
    """The proximal map of threshold |x|_1: r moved to 0 by the threshold, and no further."""
    of = jt if isinstance(r, jt.Var) else np
    return r - of.minimum(of.maximum(r, -threshold), threshold)


def _descent(gradient: Gradient, step: float) -> Gradient:
    return lambda y: -step * gradient(y)
