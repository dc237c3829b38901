"""Networks designed from optimisation methods: check the theory, and train them on toy problems and
pictures.

    python apps/optdnn.py flow
    python apps/optdnn.py rings --seeds 10
    python apps/optdnn.py images --data mnist --methods gd nesterov apg2
    python apps/optdnn.py images-cifar --methods apg2

What theory says of each method is printed before anything is trained. Writes result.json, which
grows with every method, and a picture."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Optional, Union

from jgrid import cli, picture
from jgrid.data import find
from jgrid.field import Field, check_memory, count_parameters
from jgrid.labelled import load_labelled
from jgrid.optdnn import figures, toys
from jgrid.optdnn.classifier import (
    activations,
    dense_classifier,
    multiply_adds,
    optdnn_classifier,
    size,
)
from jgrid.optdnn.flow import DEPTHS, flow_errors, slope
from jgrid.optdnn.labels import LabelTask
from jgrid.optdnn.methods import IMPLICIT, METHODS, analyse, find_method, heavy_ball
from jgrid.optdnn.network import coordinate_network
from jgrid.run import make_folder, write_run
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
import tyro
from typing_extensions import Literal, get_args

EXPLICIT = tuple(name for name in METHODS if name not in IMPLICIT)
LEARNABLE = "-learnable"  # after a method's name: its coefficients are trained too
UNSTABLE = "heavy-ball-1"  # heavy ball with beta = 1: flow's control, which must fail
# of each number that a layer puts out: with its gradient, and what lies between layers
ACTIVATION_BYTES = 24
Experiment = Literal["flow", "rings", "parity", "telgarsky", "images"]
REACH = 7.0  # of the rings' pictures: half their side


@dataclass(frozen=True)
class Toy:
    """The networks of one toy problem and how they are trained."""

    width: int
    hidden: int
    layers: int
    activation: str
    lr: float
    steps: int
    batch: int
    gain: float


TOYS = {
    "rings": Toy(2, 16, 12, "tanh", 5e-3, 1500, 256, 0.25),
    "parity": Toy(8, 16, 8, "relu", 1e-2, 1000, 256, 0.5),
    "telgarsky": Toy(4, 8, 10, "relu", 1e-2, 3000, 64, 0.5),
}


@dataclass(frozen=True)
class Config:
    """Networks from optimisation methods: check their convergence, train them on toy problems,
    classify pictures."""

    experiment: tyro.conf.Suppress[Experiment]
    """flow checks the theorem without training; rings, parity and telgarsky are toy problems;
    images classifies pictures; on the command line the word before the flags."""
    out: Optional[Path] = None
    """Folder for the results; default out/optdnn-EXPERIMENT."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""
    methods: tuple[str, ...] = ()
    """Which methods, -learnable after a name for trained coefficients; default all that suit the
    experiment. images also knows densenet."""
    seeds: Optional[int] = None
    """Networks of each method: on toy problems side by side, each with its own start and data
    (default 10); on images one after the other (default 1)."""
    steps: Optional[int] = None
    """Optimiser steps on toy problems; default the problem's own."""
    width: Optional[int] = None
    """Numbers in the state of toy problems' networks; default the problem's own."""
    data: Path = Path("mnist")
    """images: a folder with MNIST's or Fashion-MNIST's idx files, or CIFAR-10's binary version; a
    name that is not here is looked for in $JGRID_DATA, or in data/."""
    channels: tuple[int, ...] = (16, 32)
    """images: channels of each stage; between stages pictures are halved."""
    layers: int = 2
    """images: layers of each stage."""
    block: Literal["conv", "convnext", "attention"] = "conv"
    """images: the module T."""
    patch: int = 2
    """images: stride of the first convolution."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=469, batch=128, eval_every=469)
    )
    """images: how they are trained; an epoch of MNIST by default. Its seed is that of the first
    network in all experiments."""
    lr: float = 4e-3
    """images: learning rate."""
    shift: int = 0
    """images: pixels by which training pictures are moved at random."""
    flip: bool = False
    """images: half of the training pictures, at random, are seen in a mirror."""

    def __post_init__(self):
        for name in ("seeds", "layers", "patch", "lr", "steps", "width"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"--{name} must be positive, got {getattr(self, name)}")
        if not self.channels or min(self.channels) < 1:
            raise ValueError(
                f"--channels needs a positive number for each stage, got {self.channels}"
            )
        if self.shift < 0:
            raise ValueError(f"--shift must not be negative, got {self.shift}")
        for name, instead in (("steps", "--train.steps"), ("width", "--channels")):
            if getattr(self, name) and self.experiment not in TOYS:
                raise ValueError(f"--{name} is for {', '.join(TOYS)}; images has {instead}")
        if self.seeds and self.experiment == "flow":
            raise ValueError("--seeds is for experiments that train, flow does not")
        known = [*METHODS, *(name + LEARNABLE for name in METHODS)]
        known += {"flow": [UNSTABLE], "images": ["densenet"]}.get(self.experiment, [])
        for name in self.methods:
            if name not in known:
                raise ValueError(f"--methods: there is no {name!r}; there are {', '.join(known)}")


DEFAULTS = {name: Config(name) for name in get_args(Experiment)}
# of the usual size for CIFAR-10, 100 epochs, for a CUDA machine: never run
DEFAULTS["images-cifar"] = Config(
    "images",
    out=Path("out/optdnn-images-cifar"),
    data=Path("cifar-10"),
    channels=(64, 128, 256),
    layers=3,
    patch=1,
    lr=1e-3,
    shift=4,
    flip=True,
    train=TrainConfig(39_000, 128, warmup=390, decay=1e-3, eval_every=1950),
)
Command = Union[
    tuple(
        Annotated[Config, tyro.conf.subcommand(name, default=config, prefix_name=False)]
        for name, config in DEFAULTS.items()
    )
]


def main(config):
    """Run the app; returns the paths of what it wrote."""
    with cli.user_errors(config):
        device = cli.start(config.device, config.train.seed)
        data = load_labelled(find(config.data)) if config.experiment == "images" else None
        out = make_folder(config.out or Path("out") / f"optdnn-{config.experiment}")
    names = config.methods or {"flow": (*METHODS, UNSTABLE), "images": (*METHODS, "densenet")}.get(
        config.experiment, (*EXPLICIT, "nesterov" + LEARNABLE)
    )
    for name in names:
        if name != "densenet":
            theory = analyse(method_of(name))
            print(
                f"{name:22} consistent {theory.consistent!s:5}  zero-stable"
                f" {theory.zero_stable!s:5}  order {theory.order}",
                flush=True,
            )
    rows = {}

    def done(name, row):
        rows[name] = row
        print(
            f"{name:22} "
            + ", ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, (int, float))),
            flush=True,
        )
        write_run(out, config, {"methods": rows, "device": device})
        jt.gc()

    figure = {"flow": flow, "images": images}.get(config.experiment, toy)(config, names, data, done)
    path = picture.save_figure(out / f"{config.experiment}.png", figure)
    print(path)
    return [path, out / "result.json"]


def method_of(name):
    return heavy_ball(1.0) if name == UNSTABLE else find_method(name.replace(LEARNABLE, ""))


def described(name):
    """What theory says, for result.json."""
    theory = analyse(method_of(name))
    return {
        "consistent": theory.consistent,
        "zero_stable": theory.zero_stable,
        "order": theory.order,
    }


def flow(config, names, data, done):
    errors = {}
    for name in names:
        errors[name] = flow_errors(method_of(name), seed=config.train.seed)
        done(
            name,
            {
                "slope": slope(errors[name]),
                "errors": errors[name],
                "error": errors[name][-1],
                "layers": DEPTHS,
                **described(name),
            },
        )
    return figures.convergence(DEPTHS, errors)


def toy(config, names, data, done):
    kind = TOYS[config.experiment]
    copies = config.seeds or 10
    x, y, test = toy_data(config.experiment, config.train.seed, copies)
    drawn = {}
    captions = {}
    for name in names:
        jt.set_global_seed(config.train.seed)
        task = toys.CopiesTask(x, y, test)
        network = coordinate_network(
            task.dim,
            task.n_out,
            method_of(name),
            config.width or kind.width,
            kind.hidden,
            kind.layers,
            kind.activation,
            learnable=name.endswith(LEARNABLE),
            copies=(copies,),
            gain=kind.gain,
        )
        model = Field(None, network, {"network": kind.lr})
        steps = config.steps or kind.steps
        train = TrainConfig(steps=steps, batch=kind.batch, eval_every=steps, warmup=0, decay=1e-3)
        result = Trainer(task, model, train).fit()
        row = {
            task.metric: result[task.metric],
            f"{task.metric}_of_seeds": task.scores.tolist(),
            "parameters": result["parameters"] // copies,
            "seconds_train": result["seconds_train"],
            **described(name),
        }
        if config.experiment == "rings":
            values = toys.decision_values(model, copies, REACH)
            margins = toys.logit_margins(model, *test)
            row.update(
                logit_margin=float(margins.mean()),
                logit_margin_of_seeds=margins.tolist(),
                input_margin=float(toys.input_margins(values, *test, REACH).mean()),
            )
            drawn[name] = values[0]
            captions[name] = f"{task.scores[0]:.1%}, logit margin {row['logit_margin']:.1f}"
        else:
            row.update(
                {"solved": int((task.scores == 1).sum()), "seeds": copies}
                if config.experiment == "parity"
                else {"mse": float(np.median(task.scores)), "mse_mean": float(task.scores.mean())}
            )
            found = toys.outputs(model, test[0])[0]
            drawn[name] = found[:, -1] - found[:, 0] if task.classify else found[:, 0]
            captions[name] = (
                f"{row['solved']} of {copies}"
                if config.experiment == "parity"
                else f"median MSE {row['mse']:.1e}"
            )
        done(name, row)
    if config.experiment == "rings":
        return figures.regions(drawn, REACH, test[0][0], test[1][0], captions)
    if config.experiment == "parity":
        return figures.parities(drawn, y[0], captions)
    return figures.fits(x[0], y[0], drawn, captions)


def toy_data(experiment, seed, copies):
    """x and y for every copy and what to test them on: fresh rings; the trained points of parity
    and the saw-tooth."""
    if experiment == "rings":
        train, test = (
            [toys.nested_rings(1200, seed=[seed + copy, part]) for copy in range(copies)]
            for part in (0, 1)
        )
        (x, y), test = (tuple(np.stack(values) for values in zip(*part)) for part in (train, test))
        return x, y, test
    x, y = (
        np.repeat(values[None], copies, axis=0)
        for values in (toys.parity() if experiment == "parity" else toys.telgarsky())
    )
    return x, y, (x, y)


def images(config, names, data, done):
    rows = {}
    for name in names:
        runs = [
            classify(config, name, data, config.train.seed + n) for n in range(config.seeds or 1)
        ]
        rows[name] = {
            **runs[0],
            **{
                key: float(np.mean([run[key] for run in runs]))
                for key in ("test_accuracy", "seconds_train", "loss")
            },
            "test_accuracy_of_seeds": [run["test_accuracy"] for run in runs],
        }
        done(name, rows[name])
    return figures.costs(rows)


def classify(config, name, data, seed):
    """Train one network on the pictures: its results."""
    jt.set_global_seed(seed)
    shared = {"channels": config.channels, "layers": config.layers, "patch": config.patch}
    with cli.user_errors(config):
        task = LabelTask(*data[0], data[1], seed, config.shift, config.flip)
        channels, side = task.pictures.shape[1:3]
        if name == "densenet":
            like = size(
                optdnn_classifier(
                    find_method("gd"), channels, task.n_out, side, block=config.block, **shared
                )
            )
            network = dense_classifier(channels, task.n_out, parameters=like, **shared)
        else:
            network = optdnn_classifier(
                method_of(name),
                channels,
                task.n_out,
                side,
                block=config.block,
                learnable=name.endswith(LEARNABLE),
                **shared,
            )
    model = Field(None, network, {"network": config.lr})
    one = task.standardised(task.test[0][:1])
    kept = ACTIVATION_BYTES * config.train.batch * activations(network, one)
    check_memory(model, config.train.batch, kept, "--train.batch, --channels or --layers")
    result = Trainer(task, model, config.train).fit()
    return {
        "test_accuracy": result["test_accuracy"],
        "parameters": count_parameters(model),
        "multiply_adds": multiply_adds(network, task.standardised(task.test[0][:16])) / 16,
        "seconds_train": result["seconds_train"],
        "loss": result["loss"],
    }


if __name__ == "__main__":
    cli.run(Command, main)
