"""A study: one kind of network on weights, trained from several seeds."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, NamedTuple, Union

from jgrid.config import Count, config
from jgrid.field import check_memory
from jgrid.run import make_folder, save_model
from jgrid.task import AbstractTask
from jgrid.trainer import TrainConfig, Trainer
from jgrid.weightspace.models import NetConfig

import jittor as jt
import numpy as np
from jittor import nn


@config
class StudyConfig:
    """How networks on weights are trained, and how often."""

    seeds: Count = 1
    """Runs of each model with other seeds; results are their means."""
    net: NetConfig = NetConfig()
    train: TrainConfig = TrainConfig()


class Learner(nn.Module):
    """A network on weights as the trainer needs it: one learning rate, and a weight decay."""

    def __init__(self, network: nn.Module, lr: float, weight_decay: float = 0.0):
        super().__init__()
        self.network = network
        self.lr = lr
        self.weight_decay = weight_decay

    def execute(self, features: list[jt.Var]) -> Any:
        return self.network(features)

    def parameter_groups(self) -> list[dict[str, Any]]:
        params = [p for p in self.network.parameters() if not p.is_stop_grad()]
        return [
            {"name": "network", "params": params, "lr": self.lr, "weight_decay": self.weight_decay}
        ]


class Studied(NamedTuple):
    """results: means over the seeds, and the task's metric of each; task and learner of the last
    seed."""

    results: dict[str, Any]
    task: Any  # an AbstractTask, with what only its job knows of it
    learner: Learner


def train_seeds(
    model: str,
    make: Callable[[int], tuple[AbstractTask, nn.Module]],
    config: StudyConfig,
    folder: Union[str, os.PathLike],
) -> Studied:
    """Train a model, one of `models.READERS` or `EDITORS`, from each seed on.

    make(seed) -> (task, network) is called after Jittor's seed has been set. Metrics and weights go
    to folder/MODEL-SEED. memory.NotEnough where training would not fit.
    """
    runs = []
    for seed in range(config.train.seed, config.train.seed + config.seeds):
        jt.set_global_seed(seed)
        task, network = make(seed)
        learner = Learner(network, config.net.rate(model), config.net.weight_decay)
        place = make_folder(Path(folder) / f"{model}-{seed}")
        check_memory(learner, config.train.batch)
        runs.append(Trainer(task, learner, replace(config.train, seed=seed), place).fit())
        save_model(place, network, {"model": model, "seed": seed})
    results: dict[str, Any] = {
        key: value if isinstance(value, int) else float(np.mean([run[key] for run in runs]))
        for key, value in runs[0].items()
    }
    results[f"{task.metric}_seeds"] = [run[task.metric] for run in runs]
    return Studied(results, task, learner)
