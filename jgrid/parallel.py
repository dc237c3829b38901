"""Several processes that share every batch, under mpirun, on Jittor's MPI (NCCL under CUDA); one
alone does without.

Each has all parameters. Of a batch of N rows a process takes about N / n_processes, and its losses,
means over them, count by its share of the rows: added up, the losses and gradients of all are those
of the whole batch."""

from collections.abc import Sequence

import jittor as jt
import numpy as np

rank, n_processes = (jt.rank, jt.world_size) if jt.in_mpi else (0, 1)
is_first = rank == 0  # the process that evaluates and writes


def broadcast(variables: Sequence[jt.Var]) -> None:
    """Everyone takes over the first process's values."""
    if n_processes > 1:
        for variable in variables:
            needs_gradient = not variable.is_stop_grad()
            variable.update(variable.mpi_broadcast(0))
            variable.sync()  # one after the other: all processes must do the same in the same order
            if needs_gradient:
                variable.start_grad()


def add(variables: Sequence[jt.Var]) -> Sequence[jt.Var]:
    """The sums over all processes of each variable."""
    if n_processes == 1:
        return variables
    sums = []
    for variable in variables:
        sums.append(variable.mpi_all_reduce("add"))
        sums[-1].sync()
    return sums


def total(*numbers: float) -> list[float]:
    """The sums over all processes of each number; also a point at which all wait for each other."""
    if n_processes == 1:
        return [float(number) for number in numbers]
    return add([jt.array(np.array(numbers, np.float64))])[0].numpy().tolist()


def wait() -> None:
    """Come to a point at which all processes wait for each other."""
    total(0)


def agree(seconds: float, saving: bool, stopping: bool) -> tuple[float, bool, bool]:
    """What all of a training's processes go by: the first one's clock, whether it is to save,
    whether anyone has to stop."""
    numbers = total(seconds if is_first else 0.0, saving and is_first, stopping)
    return numbers[0], bool(numbers[1]), bool(numbers[2])


def share(batch: dict[str, jt.Var]) -> tuple[dict[str, jt.Var], float]:
    """(rows of the batch that are this process's, its fraction of all rows)."""
    if n_processes == 1:
        return batch, 1.0
    n = next(iter(batch.values())).shape[0]
    if n < n_processes:
        return batch, 1 / n_processes
    begin = n * rank // n_processes
    end = n * (rank + 1) // n_processes
    return {name: values[begin:end] for name, values in batch.items()}, (end - begin) / n
