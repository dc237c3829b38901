"""Networks designed from optimisation methods: check the theory, and train them on toy problems and
pictures.

    python apps/optdnn.py flow
    python apps/optdnn.py rings --seeds 10
    python apps/optdnn.py lista
    python apps/optdnn.py images --data mnist --methods gd nesterov apg2
    python apps/optdnn.py images-cifar --methods apg2

What theory says of each method is printed before anything is trained. Writes result.json, which
grows with every method, and a picture."""

from pathlib import Path
from typing import Annotated, Optional, Union

from jgrid import cli, picture
from jgrid.config import MOST, ArgumentError, Count, Positive, config
from jgrid.data import find
from jgrid.labelled import load_labelled
from jgrid.optdnn import figures
from jgrid.optdnn.classifier import DENSE, LEARNABLE, ClassifierConfig
from jgrid.optdnn.flow import DEPTHS, flow_errors, slope
from jgrid.optdnn.labels import LabelTask, train_classifier
from jgrid.optdnn.methods import IMPLICIT, METHODS, analyse, find_method, fista, heavy_ball
from jgrid.optdnn.toys import Parity, Rings, Telgarsky, train_copies
from jgrid.optdnn.unrolled import (
    ISTA_RATES,
    SparseProblems,
    SparseTask,
    Unrolled,
    fewest,
    train_unrolled,
)
from jgrid.run import make_folder, write_run
from jgrid.trainer import TrainConfig

import jittor as jt
import numpy as np
import tyro
from annotated_types import Interval
from typing_extensions import Literal

TOYS = {"rings": Rings(), "parity": Parity(), "telgarsky": Telgarsky()}
UNSTABLE = "heavy-ball-1"  # heavy ball with beta = 1: flow's control, which must fail
EXPLICIT = tuple(name for name in METHODS if name not in IMPLICIT)
TRAINED = (*METHODS, *(name + LEARNABLE for name in METHODS))

Out = Annotated[
    Optional[Path], tyro.conf.arg(help="Folder for the results; default out/optdnn-EXPERIMENT.")
]
Device = Annotated[cli.Device, tyro.conf.arg(help="auto takes CUDA where it is usable.")]
Seed = Annotated[
    int,
    Interval(ge=0, le=MOST),
    tyro.conf.arg(name="train.seed", help="Of the first network and its data."),
]


def require_methods(config):
    if not config.methods:
        raise ArgumentError("methods", "needs one at least")


@config
class FlowConfig:
    """Check the convergence theorem on a known flow; nothing is trained."""

    out: Out = None
    device: Device = "auto"
    methods: tuple[Literal[(*METHODS, UNSTABLE)], ...] = (*METHODS, UNSTABLE)
    """Which methods; heavy-ball-1 does not converge, a control."""
    seed: Seed = 0

    def check(self):
        require_methods(self)


@config
class ToyConfig:
    """Train networks of each method on a toy problem, side by side."""

    problem: tyro.conf.Suppress[Literal[tuple(TOYS)]] = "rings"
    """On the command line the word before the flags."""
    out: Out = None
    device: Device = "auto"
    methods: tuple[Literal[TRAINED], ...] = (*EXPLICIT, "nesterov" + LEARNABLE)
    """Which methods, -learnable after a name for trained coefficients."""
    seeds: Count = 10
    """Networks of each method, side by side, each with its own start and data."""
    seed: Seed = 0
    steps: Count = Rings.steps
    """Optimiser steps."""
    width: Count = Rings.width
    """Numbers in the networks' state."""

    def check(self):
        require_methods(self)


@config
class ImagesConfig:
    """Classify pictures with networks of each method, and with a DenseNet of the same size."""

    out: Out = None
    device: Device = "auto"
    methods: tuple[Literal[(*TRAINED, DENSE)], ...] = (*METHODS, DENSE)
    """Which methods, -learnable after a name for trained coefficients; and densenet."""
    seeds: Count = 1
    """Networks of each method, one after the other."""
    data: Path = Path("mnist")
    """A folder with MNIST's or Fashion-MNIST's idx files, or CIFAR-10's binary version; a name that
    is not here is looked for in $JGRID_DATA, or in data/."""
    channels: tuple[Count, ...] = (16, 32)
    """Channels of each stage; between stages pictures are halved."""
    layers: Count = 2
    """Layers of each stage."""
    block: Literal["conv", "convnext", "attention"] = "conv"
    """The module T."""
    patch: Count = 2
    """Stride of the first convolution."""
    train: TrainConfig = TrainConfig(steps=469, batch=128, eval_every=469)
    """How they are trained; an epoch of MNIST by default. The seed is that of the first network."""
    lr: Positive = 4e-3
    """Learning rate."""
    shift: Annotated[int, Interval(ge=0, le=MOST)] = 0
    """Pixels by which training pictures are moved at random."""
    flip: bool = False
    """Half of the training pictures, at random, are seen in a mirror."""

    def check(self):
        require_methods(self)
        if not self.channels:
            raise ArgumentError("channels", "needs a number for each stage")


@config
class ListaConfig:
    """Train the first steps of proximal methods on sparse problems, as networks (LISTA), and count
    the steps that ISTA and FISTA need for the same error."""

    out: Out = None
    device: Device = "auto"
    methods: tuple[Literal[("proximal-gradient", "fista")], ...] = ("proximal-gradient", "fista")
    """Which methods."""
    goal: Literal["code", "lasso"] = "code"
    """What is to be found: the sparse codes themselves, or the minimisers of LASSO."""
    penalty: Positive = 0.1
    """LASSO's, with which networks start; with --goal code ISTA and FISTA have the best for each
    number of steps."""
    layers: Count = 16
    """Layers of the networks."""
    most: Count = 1024
    """Steps of ISTA and FISTA, at most; no fewer than layers."""
    train: TrainConfig = TrainConfig(steps=2000, batch=256, clip=1.0, eval_every=2000)
    """How networks are trained, on new problems in every step."""
    lr: Positive = 3e-3
    """Learning rate."""

    def check(self):
        require_methods(self)
        if self.most < self.layers:
            raise ArgumentError("most", f"must be at least `layers`, {self.layers}")


# of the usual size for CIFAR-10, 100 epochs, for a CUDA machine: run on made files only
IMAGES_CIFAR = ImagesConfig(
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
COMMANDS = {
    "flow": FlowConfig(),
    **{name: ToyConfig(name, steps=toy.steps, width=toy.width) for name, toy in TOYS.items()},
    "lista": ListaConfig(),
    "images": ImagesConfig(),
    "images-cifar": IMAGES_CIFAR,
}
Command = Union[
    tuple(
        Annotated[type(config), tyro.conf.subcommand(name, default=config, prefix_name=False)]
        for name, config in COMMANDS.items()
    )
]


def main(config):
    """Run the app; returns the paths of what it wrote."""
    with cli.user_errors(config):
        device = cli.start(config.device, 0)  # each network starts from a seed of its own
    experiments = {FlowConfig: flow, ToyConfig: toy, ListaConfig: lista, ImagesConfig: images}
    return experiments[type(config)](config, device)


def flow(config, device):
    with cli.user_errors(config):
        report = Report(config, "flow", device)
    errors = {}
    for name in config.methods:
        found = flow_errors(method_of(name), seed=config.seed)
        errors[name] = found
        row = {"slope": slope(found), "errors": found, "error": found[-1], "layers": DEPTHS}
        report.add(name, {**row, **in_theory(name)})
    return report.finish(figures.convergence(DEPTHS, errors))


def toy(config, device):
    problem = TOYS[config.problem]
    with cli.user_errors(config):
        report = Report(config, config.problem, device)
    task = problem.task(config.seeds, config.seed)
    drawn = {}
    captions = {}
    for name in config.methods:
        model, result = train_copies(
            problem,
            task,
            method_of(name),
            learnable=name.endswith(LEARNABLE),
            width=config.width,
            steps=config.steps,
            seed=config.seed,
        )
        numbers, drawn[name], captions[name] = problem.measure(model, task)
        row = {
            task.metric: result[task.metric],
            f"{task.metric}_of_seeds": task.scores.tolist(),
            "parameters": result["parameters"] // config.seeds,
            "seconds_train": result["seconds_train"],
        }
        report.add(name, {**row, **in_theory(name), **numbers})
    return report.finish(problem.figure(task, drawn, captions))


def lista(config, device):
    with cli.user_errors(config):
        report = Report(config, "lista", device)
    problems = SparseProblems(seed=config.train.seed)
    task = SparseTask(problems, config.penalty if config.goal == "lasso" else None)
    ista = find_method("proximal-gradient")
    iterated = {
        "ista": task.errors_of_iterations(ista, config.most, ISTA_RATES),
        "fista": task.errors_of_iterations(fista(1.0), config.most),
    }
    unrolled = {}
    for name in config.methods:
        network = Unrolled(find_method(name), problems, config.penalty, config.layers)
        result = train_unrolled(task, network, config.lr, config.train)
        unrolled[name] = task.errors_of_layers(network)
        row = {"nmse_db_of_layers": unrolled[name], **result}
        for other, errors in iterated.items():
            row[f"{other}_steps"] = fewest(errors, result["nmse_db"])
            row[f"{other}_nmse_db"] = errors[config.layers]
        report.add(name, {**row, **in_theory(name)})
    return report.finish(figures.iterations(iterated, unrolled))


def images(config, device):
    with cli.user_errors(config):
        data = load_labelled(find(config.data))
        report = Report(config, "images", device)
    rows = {}
    for name in config.methods:
        seeds = range(config.train.seed, config.train.seed + config.seeds)
        runs = [classify(config, name, data, seed, report.out) for seed in seeds]
        means = {
            key: float(np.mean([run[key] for run in runs]))
            for key in ("test_accuracy", "seconds_train", "loss")
        }
        of_seeds = [run["test_accuracy"] for run in runs]
        rows[name] = {**runs[0], **means, "test_accuracy_of_seeds": of_seeds}
        report.add(name, rows[name])
    return report.finish(figures.costs(rows))


def classify(config, name, data, seed, out):
    """Train one network on the pictures: its results. It is saved, and what it misreads drawn."""
    jt.set_global_seed(seed)
    with cli.user_errors(config):
        task = LabelTask(*data[0], data[1], seed, config.shift, config.flip)
        channels, side = task.pictures.shape[1:3]
        built = ClassifierConfig(
            name,
            channels,
            task.n_out,
            side,
            config.channels,
            config.layers,
            config.block,
            config.patch,
        )
        network = built.build()
    result = train_classifier(task, network, config.lr, config.train)
    classifier = task.classifier(network)
    classifier.save(out / f"{name}-{seed}.safetensors", built)
    pictures, labels = task.test
    misread = figures.misread(pictures, labels, classifier.logits(pictures))
    picture.save_figure(out / f"{name}-{seed}-misread.png", misread)
    return result


class Report:
    """What is known of each method: result.json, which grows with every one, and a picture."""

    def __init__(self, config, experiment, device):
        self.out = make_folder(config.out or Path("out") / f"optdnn-{experiment}")
        self.config = config
        self.experiment = experiment
        self.device = device
        self.rows = {}
        for name in config.methods:
            if name != DENSE:
                said = in_theory(name)
                print(
                    f"{name:22} consistent {said['consistent']!s:5}  zero-stable"
                    f" {said['zero_stable']!s:5}  order {said['order']}",
                    flush=True,
                )

    def add(self, name, row):
        self.rows[name] = row
        numbers = {key: value for key, value in row.items() if isinstance(value, (int, float))}
        said = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
        print(f"{name:22} {said}", flush=True)
        write_run(self.out, self.config, {"methods": self.rows, "device": self.device})
        jt.gc()

    def finish(self, figure):
        """Draw; returns the paths."""
        path = picture.save_figure(self.out / f"{self.experiment}.png", figure)
        print(path)
        return [path, self.out / "result.json"]


def method_of(name):
    return heavy_ball(1.0) if name == UNSTABLE else find_method(name.replace(LEARNABLE, ""))


def in_theory(name):
    """What theory says of a method, for result.json."""
    said = analyse(method_of(name))
    return {"consistent": said.consistent, "zero_stable": said.zero_stable, "order": said.order}


if __name__ == "__main__":
    cli.run(Command, main)
