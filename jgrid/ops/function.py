"""What the fused ops share."""

import os
from collections.abc import Sequence
from typing import Any, Callable, Optional

import jittor as jt

FOLDER = os.path.dirname(os.path.abspath(__file__))


class Function(jt.Function):
    """A jt.Function whose `grad` may be differentiated again.

    It keeps the caller's variables in `self.inputs`: those `execute` receives are cut from the
    graph, and second-order gradients through them would silently be zero.
    """

    def __call__(self, *inputs: jt.Var) -> Any:
        self.inputs = inputs
        return super().__call__(*inputs)


def header(*names: str) -> str:
    """The text that includes headers of this folder into an op; Jittor rebuilds the op when one
    changes, and finds none they include."""
    return "".join(f'#include "{os.path.join(FOLDER, name)}"\n' for name in names)


def pull_back(
    plain: Callable[..., jt.Var], inputs: Sequence[jt.Var], cotangent: jt.Var
) -> list[Optional[jt.Var]]:
    """The gradients of sum(cotangent * plain(*inputs)) for each input, by autodiff; None where
    gradients are stopped; differentiable again.

    Copies of the inputs are differentiated for, not the inputs: a cotangent depends on them too,
    and that path must not count."""
    copies = [v if v.is_stop_grad() else v.clone() for v in inputs]
    free = [v for v in copies if not v.is_stop_grad()]
    gradients = iter(jt.grad((plain(*copies) * cotangent).sum(), free))
    return [None if v.is_stop_grad() else next(gradients) for v in copies]


def products(
    gradients: Sequence[Optional[jt.Var]], cotangents: Sequence[Optional[jt.Var]]
) -> jt.Var:
    """sum_i <cotangent_i, gradient_i>, a scalar (1,); what is None counts as zero."""
    total = jt.zeros(1)
    for gradient, cotangent in zip(gradients, cotangents):
        if gradient is not None and cotangent is not None:
            total = total + (gradient * cotangent).sum()
    return total


def pull_back_gradients(
    plain: Callable[..., jt.Var],
    inputs: Sequence[jt.Var],
    cotangents: Sequence[Optional[jt.Var]],
) -> list[Optional[jt.Var]]:
    """Second order: the gradients of sum_i <cotangent_i, g_i> for all inputs, g_i those of sum(last
    input * plain(other inputs)) for the others; a cotangent that is None counts as zero."""

    def paired(*inputs):
        return products(pull_back(plain, inputs[:-1], inputs[-1]), cotangents)

    return pull_back(paired, list(inputs), jt.ones(1))
