"""How much memory training a model takes, and the refusal where there is less."""

from jgrid import memory
from jgrid.field.base import count_parameters
from jgrid.grid import LOWER, Grid

import jittor as jt
import numpy as np
from jittor import nn

# itself, its gradient, Adam's two moments, and the copies that the trainer keeps of the last two
# evaluations
BYTES_PER_PARAMETER = 24


def training_bytes(model: nn.Module, batch: int) -> int:
    """Bytes that training on `batch` points a step takes, roughly: the parameters, Adam's state,
    and what each layer gives, with gradients.

    Behind a grid, where one op computes the decoder, it is less.
    """
    layers = [
        p
        for group in model.parameter_groups()
        if group["name"] not in ("features", "kernel")
        for p in group["params"]
        if len(p.shape) > 1
    ]
    per_point = 64 + sum(16 * max(p.shape[-2:]) for p in layers)
    whole = BYTES_PER_PARAMETER * count_parameters(model)
    for grid in (module for module in model.modules() if isinstance(module, Grid)):
        index = grid.index
        kernel = grid.kernel
        channels = grid.w.shape[1]
        per_point += 8 * grid.n_out
        if not grid.fused:
            of_node = 2 * index.dim + kernel.n_kernels * channels + 3 * kernel.n_filters
            per_point += 16 * index.k * of_node
        elif kernel.n_filters:
            functions = 1 + 2 * index.dim * kernel.octaves
            whole += 8 * index.n_nodes * functions * (kernel.n_filters + channels)
    return whole + per_point * batch


def check_memory(
    model: nn.Module,
    batch: int,
    data: int = 0,
    lower_data: str = "the size of the data",
    data_on_host: bool = True,
) -> int:
    """Bytes that training a model takes, beside `data` bytes; memory.NotEnough, with that number
    and the arguments that lower it, where they are more than there are.

    data_on_host: whether the data lie in main memory, which under CUDA is not the model's.
    """
    sizes = {
        group["name"]: sum(int(np.prod(p.shape)) for p in group["params"])
        for group in model.parameter_groups()
    }
    total = sum(sizes.values())
    what = f"training {total:,} parameters on {batch:,} points a step"
    apart = 0
    if jt.flags.use_cuda and data_on_host:
        memory.require(data, f"the data for {what}", lower_data)
        data, apart = 0, data
    needed = training_bytes(model, batch) + data
    if 2 * data > needed:
        lower = lower_data
    elif 2 * BYTES_PER_PARAMETER * total < needed:
        lower = "`batch`"
    elif sizes.get("features", 0) > total / 2:
        lower = LOWER
    else:
        lower = "`width` or `decoder.width`"
    memory.require_of_jittor(needed, what, lower)
    return needed + apart
