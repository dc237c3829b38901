"""Fit fields by the thousand, and learn from their weights.

    python apps/weightspace.py zoo --subject sines --fields 3000
    python apps/weightspace.py classify --subject mnist/t10k-images-idx3-ubyte.gz
    python apps/weightspace.py regress
    python apps/weightspace.py embed
    python apps/weightspace.py adapt --subject mnist/t10k-images-idx3-ubyte.gz
    python apps/weightspace.py adapt-cifar
    python apps/weightspace.py forward

Each job makes the zoo it needs, or takes one with --zoo; --help after the job lists its flags and
their values there."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Optional, Union

from jgrid import cli, data
from jgrid.picture import save_figure
from jgrid.trainer import TrainConfig
from jgrid.weightspace import figures
from jgrid.weightspace.classifiers import Classifiers, Pairs
from jgrid.weightspace.grids import PARTS, GridPictures
from jgrid.weightspace.models import MODELS, NetConfig
from jgrid.weightspace.subjects import Sines, load_pictures
from jgrid.weightspace.zoo import FitConfig, Zoo, fit_zoo

import tyro
from typing_extensions import Literal
from weightspace_jobs import adapt, embed, forward, halves, read

Job = Literal["zoo", "classify", "regress", "embed", "adapt", "forward"]


@dataclass(frozen=True)
class Config:
    """Learn from the weights of small networks. Writes results, metrics, models and pictures to a
    folder."""

    job: tyro.conf.Suppress[Job] = "zoo"
    """What to do; on the command line the word before the flags."""
    out: Optional[Path] = None
    """Folder for the results; default out/weightspace-JOB."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""
    zoo: Optional[Path] = None
    """A zoo.safetensors of an earlier run, instead of fitting one."""
    subject: str = "sines"
    """What they are of: sines; an idx file of pictures (its labels beside it); a folder with such
    files, with CIFAR-10's binary version, or with a sub-folder of pictures for each class. A name
    that is not here is looked for in $JGRID_DATA, or in data/."""
    fields: int = 3000
    """Networks in the zoo."""
    kind: Literal["siren", "mulfa", "mlp", "cnn"] = "siren"
    """The networks. Fields: a SIREN, or a MulFAGrid of 4 x 4 cells and 6 channels with a decoder of
    the hidden layers. Classifiers, for adapt: an MLP on all pixels, or 3 x 3 convolutions of stride
    2, one for each hidden layer, and a linear layer of their means."""
    read: tuple[Literal[tuple(PARTS)], ...] = tuple(PARTS)
    """Which parts of a MulFAGrid the networks see."""
    side: int = 10
    """Pixels along a side, to which pictures are reduced."""
    crop: int = 20
    """Pixels along a side of the middle of the pictures that is used; 0: the largest square."""
    lowest: float = 0.5
    """Lowest frequency of the sines, which are seen on [-pi, pi]."""
    highest: float = 10.0
    """Highest frequency of the sines."""
    amplitude: float = 0.0
    """Largest amplitude of the sines; 0: all have amplitude 1."""
    held_out: int = 500
    """Networks of the zoo that are tested on."""
    pictures: int = 200
    """Pictures to which each classifier is fitted."""
    rotation: float = 45.0
    """Of the corrupted domain, in degrees."""
    noise: float = 0.2
    """Of the corrupted domain, standard deviation."""
    flip: float = 0.0
    """Of the corrupted domain, the probability with which a picture is mirrored."""
    jitter: float = 0.0
    """Of the corrupted domain: brightness, contrast and saturation of each picture are multiplied
    by up to 1 +- this."""
    models: tuple[Literal[tuple(MODELS)], ...] = ("dwsnet", "mlp")
    """Networks to train and compare."""
    signs: Literal["canonical", "vary", "keep"] = "canonical"
    """A neuron of sines may change sign, sin(-u) = -sin(u), and the field stays: give all neurons
    the sign of a rule, vary the signs in training, or do neither."""
    view_noise: float = 0.0
    """Noise on the weights in training, in their standard deviations."""
    view_drop: float = 0.0
    """Probability with which a weight is masked in training."""
    view_turn: float = 0.0
    """Largest angle by which fields of two coordinates are turned in training, in degrees; 45 in
    the published classifications, which have --view-scale 0.2 --view-shift 0.25 --view-noise 0.1
    --view-drop 0.01 besides."""
    view_scale: float = 0.0
    """Their coordinates are multiplied by up to 1 +- this."""
    view_shift: float = 0.0
    """They are moved by up to this along each coordinate, which is in [-1, 1]."""
    seeds: int = 1
    """Runs of each model with other seeds; results are their means."""
    fit: FitConfig = field(default_factory=FitConfig)
    net: NetConfig = field(default_factory=NetConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self):
        for name in ("fields", "side", "held_out", "pictures", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}"
                )
        if self.job != "zoo" and self.zoo is None and self.held_out >= self.fields:
            raise ValueError(
                f"--held-out must be less than --fields, got {self.held_out} and {self.fields}"
            )
        if self.crop < 0 or self.noise < 0 or self.view_noise < 0 or not 0 <= self.view_drop < 1:
            raise ValueError(
                "--crop, --noise and --view-noise must not be negative and --view-drop in [0, 1),"
                f" got {self.crop}, {self.noise}, {self.view_noise} and {self.view_drop}"
            )
        if not (
            0 <= self.view_turn <= 180 and 0 <= self.view_scale < 1 and 0 <= self.view_shift <= 2
        ):
            raise ValueError(
                "--view-turn must be in [0, 180], --view-scale in [0, 1) and --view-shift in [0,"
                f" 2], got {self.view_turn}, {self.view_scale} and {self.view_shift}"
            )
        if not (0 <= self.flip <= 1 and 0 <= self.jitter <= 1):
            raise ValueError(
                f"--flip and --jitter must be in [0, 1], got {self.flip} and {self.jitter}"
            )
        if not 0 <= self.lowest < self.highest or self.amplitude < 0:
            raise ValueError(
                "--lowest must be in [0, --highest) and --amplitude not negative, got "
                f"{self.lowest}, {self.highest} and {self.amplitude}"
            )
        if not self.models or not self.read:
            raise ValueError("--models and --read need one at least")
        if self.kind == "mulfa" and (
            self.job not in ("zoo", "classify") or {"inr2vec", "transformer"} & set(self.models)
        ):
            raise ValueError("--kind mulfa goes with zoo and classify, and not with models of rows")
        if (self.kind in ("mlp", "cnn")) != (self.job == "adapt"):
            raise ValueError(
                f"--kind is mlp or cnn for adapt, siren or mulfa for all else, got {self.kind} for"
                f" {self.job}"
            )
        if self.job in ("adapt", "forward") and not set(self.models) <= {"dwsnet", "mlp"}:
            raise ValueError(
                f"{self.job} knows the models dwsnet and mlp, got {', '.join(self.models)}"
            )
        if self.job in ("adapt", "forward") and (
            self.view_noise or self.view_drop or self.signs == "vary"
        ):
            raise ValueError(
                "--view-noise, --view-drop and --signs vary change what is to be learned by"
                f" {self.job}"
            )


SINES = TrainConfig(steps=1000, batch=64, warmup=100, decay=0.01, eval_every=250)
DEFAULTS = {
    "zoo": Config(),
    # fields that are fitted gently are easier to read than those of many more decibels
    "classify": Config(
        job="classify",
        subject="mnist",
        fields=8000,
        held_out=1200,
        fit=FitConfig(lr=3e-3),
        net=NetConfig(channels=16),
        train=TrainConfig(steps=850, batch=128, warmup=100, decay=0.01, eval_every=425),
    ),
    "regress": Config(
        job="regress", fit=FitConfig(steps=500), net=NetConfig(channels=16, depth=3), train=SINES
    ),
    "embed": Config(
        job="embed",
        lowest=0.0,
        amplitude=10.0,
        view_noise=0.2,
        view_drop=0.5,
        fit=FitConfig(steps=500),
        net=NetConfig(channels=16, depth=3),
        train=replace(SINES, batch=128),
    ),
    "adapt": Config(
        job="adapt",
        kind="mlp",
        subject="mnist",
        fields=600,
        held_out=120,
        fit=FitConfig(steps=100),
        seeds=3,
        net=NetConfig(channels=8, depth=3, lr=3e-4),
        train=TrainConfig(steps=400, batch=16, eval_every=100),
    ),
    # the published experiment's domain, with strengths and sizes of our own, for CUDA: never run on
    # CIFAR-10 itself
    "adapt-cifar": Config(
        job="adapt",
        out=Path("out/weightspace-adapt-cifar"),
        kind="cnn",
        subject="cifar-10",
        side=32,
        crop=0,
        fields=2000,
        held_out=400,
        pictures=1000,
        seeds=3,
        rotation=30.0,
        noise=0.1,
        flip=0.5,
        jitter=0.4,
        fit=FitConfig(hidden=(16, 16, 16), lr=3e-3),
        net=NetConfig(channels=16, lr=1e-3),
        train=TrainConfig(steps=4000, batch=16, warmup=100, eval_every=500),
    ),
    "forward": Config(
        job="forward",
        highest=2.0,
        net=NetConfig(channels=16, depth=3),
        train=replace(SINES, steps=4000, batch=128),
    ),
}
Command = Union[
    tuple(
        Annotated[Config, tyro.conf.subcommand(name, default=config, prefix_name=False)]
        for name, config in DEFAULTS.items()
    )
]


def main(config):
    """Run the app; returns the result."""
    with cli.user_errors(config):
        device = cli.start(config.device, config.train.seed)
        pictures = None if config.zoo and config.job != "adapt" else load(config)
        zoo = Zoo.load(config.zoo) if config.zoo else None
        check(config, zoo, pictures)
        out = cli.make_folder(config.out or Path("out") / f"weightspace-{config.job}")
        if zoo is None:
            zoo = make_zoo(config, pictures, out)
    quality = zoo.config["quality"]
    about = {
        "fields": len(zoo.quality),
        "seconds": round(zoo.config["seconds"], 2),
        f"mean_{quality}": float(zoo.quality.mean()),
        f"least_{quality}": float(zoo.quality.min()),
    }
    paths = (
        [save_figure(out / "fields.png", figures.fields(zoo))]
        if zoo.config["activation"] == "sine"
        else []
    )
    jobs = {
        "zoo": lambda *_: ({}, []),
        "classify": read,
        "regress": read,
        "embed": embed,
        "adapt": adapt,
        "forward": forward,
    }
    result, made = jobs[config.job](config, zoo, pictures, out)
    result = {**result, **about, "device": device}
    cli.write_run(out, config, result)
    for name, value in result.items():
        print(
            f"{name}: "
            + (
                ", ".join(f"{k} {v}" for k, v in value.items())
                if isinstance(value, dict)
                else str(value)
            )
        )
    print("\n".join(str(path) for path in [*paths, *made]))
    return result


def load(config):
    """The pictures of the subject; None for sines."""
    if config.subject == "sines":
        return None
    return load_pictures(data.find(config.subject), config.side, config.crop)


def check(config, zoo, pictures):
    """ValueError where a job cannot be done with the zoo or the subject."""
    fields = len(zoo.quality) if zoo else config.fields
    if config.job != "zoo" and config.held_out >= fields:
        raise ValueError(f"{config.zoo}: {fields} networks, too few to hold out {config.held_out}")
    if pictures is not None and config.job != "adapt" and fields > len(pictures):
        raise ValueError(f"--fields {fields}: {config.subject} has {len(pictures)} pictures")
    if config.kind == "mulfa" and pictures is None and zoo is None:
        raise ValueError("--kind mulfa needs pictures")
    if config.job == "adapt" and pictures is None:
        raise ValueError("adapt needs pictures, --subject sines has none")
    if zoo is not None and (zoo.config["quality"] == "accuracy") != (config.job == "adapt"):
        kind = "fields" if config.job == "adapt" else "classifiers"
        raise ValueError(f"{config.zoo}: its networks are {kind}, of no use to {config.job}")
    if config.job == "adapt":
        classes = min(len(Pairs(part.pixels, part.labels).members) for part in halves(pictures))
        if zoo is not None:
            inputs, (side, _, channels) = zoo.weights["W1"].shape[2], pictures.pixels.shape[1:]
            if inputs != (channels if zoo.weights["W1"].ndim == 4 else side * side * channels):
                raise ValueError(
                    f"{config.zoo}: its classifiers have {inputs} inputs, which do not go with"
                    f" pictures of --side {side} and {channels} channels"
                )
            if zoo.labels.max() >= classes:
                raise ValueError(
                    f"{config.zoo}: its classifiers know {zoo.labels.max() + 1} classes,"
                    f" {config.subject} has {classes}"
                )
    rows = {"inr2vec", "transformer"} & set(config.models)
    if zoo is not None and "features" in zoo.weights and (config.job != "classify" or rows):
        raise ValueError(
            f"{config.zoo}: its fields are grids, which only classify reads, and not with models of"
            " rows"
        )
    if config.view_turn or config.view_scale or config.view_shift:
        coordinates = zoo.weights["W1"].shape[2] if zoo else 1 if pictures is None else 2
        sines = zoo.config["activation"] == "sine" if zoo else config.kind == "siren"
        if (
            config.job not in ("classify", "embed")
            or not sines
            or config.view_turn
            and coordinates < 2
        ):
            raise ValueError(
                "--view-turn, --view-scale and --view-shift are for classify and embed, with fields"
                " of sines, and the first needs two coordinates"
            )
    if config.read != tuple(PARTS) and not (
        "features" in zoo.weights if zoo else config.kind == "mulfa"
    ):
        raise ValueError(
            "--read chooses parts of MulFAGrids, --kind mulfa; these networks have none"
        )
    classes = zoo.labels.ndim == 1 if zoo else pictures is not None
    if config.job in ("classify", "regress", "embed") and classes != (config.job == "classify"):
        raise ValueError(
            f"{config.job} needs fields"
            f" {'with classes' if config.job == 'classify' else 'of sines'}"
        )


def make_zoo(config, pictures, out):
    if config.job == "adapt":
        subject = Classifiers(halves(pictures)[0], config.pictures, config.kind)
    else:
        subject = pictures or Sines(
            lowest=config.lowest, highest=config.highest, amplitude=config.amplitude
        )
        subject = GridPictures(pictures) if config.kind == "mulfa" else subject
    return fit_zoo(subject, config.fields, config.fit, out)[0]


if __name__ == "__main__":
    cli.run(Command, main)
