"""Adam for fields."""

from collections.abc import Iterable, Sequence
from typing import Any, Callable

from jgrid.ops.adam import adam, fused_adam

import jittor as jt

# of the running means. Squares are forgotten in 20 steps: while a residual falls by orders, a
# longer memory makes steps too small (docs/mulfa.md: 1.2 to 1.5 dB of a picture after 600 steps)
BETAS = (0.9, 0.95)


class Adam:
    """Adam (Kingma and Ba 2015) with a rate for each group of parameters.

    groups: [{"params", "lr"}], and "lazy": True for tables of features, in which a row that a batch
    does not touch, so that its gradient is zero, keeps its value and moments (Mueller et al. 2022
    do the same): a step costs what it touches. Other parameters, and all with lazy False, follow
    the formula of `ops.adam`. "weight_decay": so many times the parameters are added to their
    gradients. "name" is for reports. clip: largest norm of all gradients together, 0 for none.
    reduce: of [loss, *gradients] before they are used, such as a sum over processes.
    State: steps, and m and v for each parameter in the order of `parameters`. ValueError for what a
    group has besides."""

    KEYS = {"params", "lr", "lazy", "weight_decay", "name"}

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        betas: tuple[float, float] = BETAS,
        eps: float = 1e-15,
        clip: float = 0.0,
        fused: bool = True,
        reduce: Callable[[Sequence[jt.Var]], Iterable[jt.Var]] = list,
    ):
        self.param_groups = [dict(group) for group in groups]
        self.betas = betas
        self.eps = eps
        self.clip = clip
        self.fused = fused
        self.reduce = reduce
        unknown = set().union(*self.param_groups) - self.KEYS
        if unknown:
            raise ValueError(
                f"a group of parameters has {', '.join(sorted(self.KEYS))}, not"
                f" {', '.join(sorted(unknown))}"
            )
        self.parameters = [p for group in self.param_groups for p in group["params"]]
        self._groups = [group for group in self.param_groups for _ in group["params"]]
        self.m = [jt.zeros(p.shape).stop_grad() for p in self.parameters]
        self.v = [jt.zeros(p.shape).stop_grad() for p in self.parameters]
        self.steps = 0
        jt.sync(self.m + self.v)

    def step(self, loss: jt.Var, factor: float = 1.0) -> jt.Var:
        """Lower the loss; the groups' rates count `factor` times. Returns the loss, reduced."""
        loss, *gradients = self.reduce([loss, *jt.grad(loss, self.parameters)])
        for n, (p, group) in enumerate(zip(self.parameters, self._groups)):
            decay = group.get("weight_decay", 0.0)
            if decay:
                gradients[n] = gradients[n] + decay * p
        scale = jt.ones(1)
        if self.clip:
            norm = jt.sqrt(sum((g * g).sum() for g in gradients))
            scale = jt.minimum(self.clip / (norm + 1e-30), scale)
        # parameters change in place: what reads them must be done
        jt.sync([loss, *gradients, *self.parameters])
        self.apply(gradients, scale, factor)
        return loss

    def apply(self, gradients: Sequence[jt.Var], scale: jt.Var, factor: float = 1.0) -> None:
        """A step along gradients that have been computed, times `scale`."""
        self.steps += 1
        b1, b2 = self.betas
        correction = (1 - b2**self.steps) ** 0.5 / (1 - b1**self.steps)
        one_step = fused_adam if self.fused else adam
        with jt.no_grad():
            for p, m, v, g, group in zip(self.parameters, self.m, self.v, gradients, self._groups):
                rate = group["lr"] * factor * correction
                lazy = group.get("lazy", False)
                new = one_step(p, m, v, g, scale, rate, self.betas, self.eps, lazy)
                for old, value in zip((p, m, v), new):
                    old.update(value)
        for p in self.parameters:
            p.start_grad()  # an update takes over that nothing is differentiated for it
        jt.sync(self.parameters + self.m + self.v)
