"""Fit fields by the thousand, and learn from their weights.

    python apps/weightspace.py zoo --subject sines --fields 3000
    python apps/weightspace.py classify --subject mnist/t10k-images-idx3-ubyte.gz
    python apps/weightspace.py regress
    python apps/weightspace.py embed
    python apps/weightspace.py adapt --subject mnist/t10k-images-idx3-ubyte.gz
    python apps/weightspace.py forward

Each job makes the zoo it needs, or takes one with --zoo; --help after the job lists its flags and their values there.
"""
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Optional, Union

from jgrid import cli
from jgrid.field import check_memory
from jgrid.theory.figures import save
from jgrid.trainer import TrainConfig, Trainer
from jgrid.weightspace import figures
from jgrid.weightspace.adapt import AdaptTask, Classifiers, Pairs, corrupt
from jgrid.weightspace.baselines import align
from jgrid.weightspace.grids import PARTS, GridPictures
from jgrid.weightspace.models import MODELS, NetConfig
from jgrid.weightspace.subjects import Sines, load_pictures
from jgrid.weightspace.tasks import EmbedTask, ForwardTask, Projected, Reader, ReadTask, Weights, canonical_signs, outputs, split
from jgrid.weightspace.zoo import FitConfig, Zoo, fit_zoo

import jittor as jt
import numpy as np
import tyro
from typing_extensions import Literal

Job = Literal["zoo", "classify", "regress", "embed", "adapt", "forward"]


@dataclass(frozen=True)
class Config:
    """Learn from the weights of small networks. Writes results, metrics, models and pictures to a folder."""
    job: tyro.conf.Suppress[Job] = "zoo"
    """What to do; on the command line the word before the flags."""
    out: Optional[Path] = None
    """Folder for the results; default out/weightspace-JOB."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""
    zoo: Optional[Path] = None
    """A zoo.safetensors of an earlier run, instead of fitting one."""
    subject: str = "sines"
    """What they are of: sines; an idx file of pictures (its labels beside it); a folder with a sub-folder for each class; or mnist or
    fashion-mnist, whose idx files are looked for in the folder of that name in $JGRID_DATA, or in data/."""
    fields: int = 3000
    """Networks in the zoo."""
    kind: Literal["siren", "mulfa"] = "siren"
    """What pictures are fitted with: a SIREN, or a MulFAGrid of 4 x 4 cells and 6 channels with a decoder of the hidden layers."""
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
    rotation: float = 45.0
    """Of the corrupted domain, in degrees."""
    noise: float = 0.2
    """Of the corrupted domain, standard deviation."""
    models: tuple[Literal[tuple(MODELS)], ...] = ("dwsnet", "mlp")
    """Networks to train and compare."""
    signs: Literal["canonical", "vary", "keep"] = "canonical"
    """A neuron of sines may change sign, sin(-u) = -sin(u), and the field stays: give all neurons the sign of a rule, vary the signs in
    training, or do neither."""
    view_noise: float = 0.0
    """Noise on the weights in training, in their standard deviations."""
    view_drop: float = 0.0
    """Probability with which a weight is masked in training."""
    seeds: int = 1
    """Runs of each model with other seeds; results are their means."""
    fit: FitConfig = field(default_factory=FitConfig)
    net: NetConfig = field(default_factory=NetConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self):
        for name in ("fields", "side", "held_out", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if self.job != "zoo" and self.zoo is None and self.held_out >= self.fields:
            raise ValueError(f"--held-out must be less than --fields, got {self.held_out} and {self.fields}")
        if self.crop < 0 or self.noise < 0 or self.view_noise < 0 or not 0 <= self.view_drop < 1:
            raise ValueError("--crop, --noise and --view-noise must not be negative and --view-drop in [0, 1), got "
                             f"{self.crop}, {self.noise}, {self.view_noise} and {self.view_drop}")
        if not 0 <= self.lowest < self.highest or self.amplitude < 0:
            raise ValueError("--lowest must be in [0, --highest) and --amplitude not negative, got "
                             f"{self.lowest}, {self.highest} and {self.amplitude}")
        if not self.models or not self.read:
            raise ValueError("--models and --read want one at least")
        if self.kind == "mulfa" and (self.job not in ("zoo", "classify") or {"inr2vec", "transformer"} & set(self.models)):
            raise ValueError("--kind mulfa goes with zoo and classify, and not with models of rows")
        if self.job in ("adapt", "forward") and not set(self.models) <= {"dwsnet", "mlp"}:
            raise ValueError(f"{self.job} knows the models dwsnet and mlp, got {', '.join(self.models)}")


SINES = TrainConfig(steps=1000, batch=64, warmup=100, decay=0.01, eval_every=250)
DEFAULTS = {
    "zoo": Config(),
    # fields that are fitted gently are easier to read than those of many more decibels
    "classify": Config(job="classify", subject="mnist", fields=8000, held_out=1200, fit=FitConfig(lr=3e-3), net=NetConfig(channels=16),
                       train=TrainConfig(steps=850, batch=128, warmup=100, decay=0.01, eval_every=425)),
    "regress": Config(job="regress", fit=FitConfig(steps=500), net=NetConfig(channels=16, depth=3), train=SINES),
    "embed": Config(job="embed", lowest=0.0, amplitude=10.0, view_noise=0.2, view_drop=0.5, fit=FitConfig(steps=500),
                    net=NetConfig(channels=16, depth=3), train=replace(SINES, batch=128)),
    "adapt": Config(job="adapt", subject="mnist", fields=600, held_out=120, fit=FitConfig(steps=100), seeds=3,
                    net=NetConfig(channels=8, depth=3, lr=3e-4), train=TrainConfig(steps=400, batch=16, eval_every=100)),
    "forward": Config(job="forward", highest=2.0, net=NetConfig(channels=16, depth=3), train=replace(SINES, batch=128)),
}
Command = Union[tuple(Annotated[Config, tyro.conf.subcommand(name, default=config, prefix_name=False)]
                      for name, config in DEFAULTS.items())]


def main(config):
    """Run the app; returns the result."""
    with cli.user_errors():
        device = cli.start(config.device, config.train.seed)
        pictures = None if config.zoo and config.job != "adapt" else load(config)
        zoo = Zoo.load(config.zoo) if config.zoo else None
        check(config, zoo, pictures)
        out = cli.make_folder(config.out or Path("out") / f"weightspace-{config.job}")
        if zoo is None:
            zoo = make_zoo(config, pictures, out)
    quality = zoo.config["quality"]
    about = {"fields": len(zoo.quality), "seconds": round(zoo.config["seconds"], 2), f"mean_{quality}": float(zoo.quality.mean()),
             f"least_{quality}": float(zoo.quality.min())}
    paths = [save(out / "fields.png", figures.fields(zoo))] if zoo.config["activation"] == "sine" else []
    jobs = {"zoo": lambda *_: ({}, []), "classify": read, "regress": read, "embed": embed, "adapt": adapt, "forward": forward}
    result, made = jobs[config.job](config, zoo, pictures, out)
    result = {**result, **about, "device": device}
    cli.write_run(out, config, result)
    for name, value in result.items():
        print(f"{name}: " + (", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)))
    print("\n".join(str(path) for path in [*paths, *made]))
    return result


def load(config):
    """The pictures of the subject; None for sines."""
    if config.subject == "sines":
        return None
    path = Path(config.subject)
    if config.subject in ("mnist", "fashion-mnist"):
        folder = Path(os.environ.get("JGRID_DATA", "data")) / config.subject
        path = next(iter(sorted(folder.glob("t*-images-idx3-ubyte*"), reverse=True)), folder / "train-images-idx3-ubyte.gz")
    elif not path.exists():
        raise ValueError(f"--subject {config.subject}: neither sines, mnist, fashion-mnist nor a file or folder")
    return load_pictures(path, config.side, config.crop)


def check(config, zoo, pictures):
    """ValueError where a job cannot be done with the zoo or the subject."""
    fields = len(zoo.quality) if zoo else config.fields
    if config.job != "zoo" and config.held_out >= fields:
        raise ValueError(f"{config.zoo}: {fields} networks, too few to hold out {config.held_out}")
    if pictures is not None and config.job != "adapt" and fields > len(pictures):
        raise ValueError(f"--fields {fields}: {config.subject} has {len(pictures)} pictures")
    if config.kind == "mulfa" and pictures is None and zoo is None:
        raise ValueError("--kind mulfa wants pictures")
    if config.job == "adapt" and pictures is None:
        raise ValueError("adapt wants pictures, --subject sines has none")
    if zoo is not None and (zoo.config["quality"] == "accuracy") != (config.job == "adapt"):
        kind = "fields" if config.job == "adapt" else "classifiers"
        raise ValueError(f"{config.zoo}: its networks are {kind}, of no use to {config.job}")
    rows = {"inr2vec", "transformer"} & set(config.models)
    if zoo is not None and "features" in zoo.weights and (config.job != "classify" or rows):
        raise ValueError(f"{config.zoo}: its fields are grids, which only classify reads, and not with models of rows")
    classes = zoo.labels.ndim == 1 if zoo else pictures is not None
    if config.job in ("classify", "regress", "embed") and classes != (config.job == "classify"):
        raise ValueError(f"{config.job} wants fields {'with classes' if config.job == 'classify' else 'of sines'}")


def make_zoo(config, pictures, out):
    if config.job == "adapt":
        subject = Classifiers(halves(pictures)[0])
    else:
        subject = pictures or Sines(lowest=config.lowest, highest=config.highest, amplitude=config.amplitude)
        subject = GridPictures(pictures) if config.kind == "mulfa" else subject
    return fit_zoo(subject, config.fields, config.fit, out)[0]


def halves(pictures):
    """Pictures that classifiers and adaptation see, and those, a fifth of all, that they do not."""
    last = len(pictures) * 4 // 5
    return pictures.part(0, last), pictures.part(last, len(pictures))


def over_seeds(config, out, make):
    """{model: results}, means over the seeds; make(model, seed) -> (task, network). Also the networks of the last seed, and its task."""
    results, networks, task = {}, {}, None
    for name in config.models:
        runs = []
        for seed in range(config.train.seed, config.train.seed + config.seeds):
            jt.set_global_seed(seed)
            task, network = make(name, seed)
            rate = config.net.lr if name == "dwsnet" else config.net.lr_baselines
            reader, folder = Reader(network, rate, config.net.weight_decay), cli.make_folder(out / f"{name}-{seed}")
            check_memory(reader, config.train.batch)
            runs.append(Trainer(task, reader, replace(config.train, seed=seed), folder).fit())
            cli.save_model(folder, network, {"job": config.job, "model": name, "seed": seed})
            print(f"{name}, seed {seed}: {task.metric} {runs[-1][task.metric]:.4f}", flush=True)
        networks[name] = (task, reader)
        results[name] = {key: value if isinstance(value, int) else float(np.mean([run[key] for run in runs]))
                         for key, value in runs[0].items()}
        results[name][f"{task.metric}_seeds"] = [run[task.metric] for run in runs]
    return results, networks


def weights(config, zoo, train, name=None):
    """The zoo's weights as a model sees them: aligned, or varied."""
    starts = tuple(start for part in config.read for start in PARTS[part])
    space = zoo.space.part([key for key in zoo.weights if key.startswith(starts)])
    values = {key: zoo.weights[key] for key, _ in space.tensors}
    sines = zoo.config["activation"] == "sine"
    if sines and config.signs == "canonical":
        values = canonical_signs(values)
    if name == "mlp-aligned":
        values = align(space, values, {key: value[train[0]] for key, value in values.items()})
    return Weights(space, values, train, permute=name == "mlp-permuted", signs=sines and config.signs == "vary",
                   noise=config.view_noise, drop=config.view_drop)


def read(config, zoo, pictures, out):
    """Classes of pictures, or the frequencies of sines."""
    train, test = split(len(zoo.quality), config.held_out, 0)
    labels = zoo.labels if config.job == "classify" else zoo.labels[:, 1:]

    def make(name, seed):
        task = ReadTask(weights(config, zoo, train, name), labels, train, test, seed)
        return task, MODELS[name][0](task.weights.space, task.n_out, config.net, 1)

    results, networks = over_seeds(config, out, make)
    if config.job == "classify":
        return {**results, "chance": float(np.bincount(labels[test]).max() / len(test))}, []
    task = networks[config.models[0]][0]
    found = {name: (outputs(reader, task.weights, test) * task.deviation + task.mean)[:, 0] for name, (task, reader) in networks.items()}
    return ({**results, "predict_mean": {"mse": task.predict_mean}},
            [save(out / "frequencies.png", figures.predictions(labels[test][:, 0], found, "frequency"))])


def embed(config, zoo, pictures, out):
    """Embeddings by contrast, a linear regression from them to (a, b), and their t-SNE."""
    train, test = split(len(zoo.quality), config.held_out, 0)

    def make(name, seed):
        task = EmbedTask(weights(config, zoo, train, name), zoo.labels, train, test, seed=seed)
        return task, Projected(MODELS[name][0](task.weights.space, task.n_out, config.net, 1), task.n_out)

    results, networks = over_seeds(config, out, make)
    found = {name: outputs(reader, task.weights, test) for name, (task, reader) in networks.items()}
    predict_mean = networks[config.models[0]][0].predict_mean
    return ({**results, "predict_mean": {"mse": predict_mean}},
            [save(out / "embedding.png", figures.embedding(found, zoo.labels[test], ("amplitude a", "frequency b")))])


def adapt(config, zoo, pictures, out):
    """Classifiers for turned and noisy pictures from classifiers for clean ones."""
    train, test = split(len(zoo.quality), config.held_out, 0)
    parts, rng = halves(pictures), np.random.default_rng(config.train.seed)
    known, unseen = (Pairs(corrupt(part.pixels, config.rotation, config.noise, rng), part.labels) for part in parts)

    def make(name, seed):
        task = AdaptTask(weights(config, zoo, train), zoo.labels, train, test, known, unseen, seed)
        return task, MODELS[name][1](task.weights.space, config.net)

    results, networks = over_seeds(config, out, make)
    task, clean = networks[config.models[0]][0], parts[1].pixels[:10]
    about = {"no adaptation": {"accuracy": results[config.models[0]]["accuracy_unadapted"]},
             "on clean pictures": {"accuracy": task.accuracy(None, Pairs(parts[1].pixels, parts[1].labels))}}
    return {**results, **about}, [save(out / "domains.png", figures.domains(clean, unseen.pixels[:10], clean.shape[1]))]


def forward(config, zoo, pictures, out):
    """The fields' values from their weights and a point."""
    train, test = split(len(zoo.quality), config.held_out, 0)
    dim = zoo.weights["W1"].shape[2]

    def make(name, seed):
        task = ForwardTask(weights(config, zoo, train), zoo.config["omega"], dim, train, test, seed)
        return task, MODELS[name][0](task.weights.space, 1, config.net, 1 + dim)

    return over_seeds(config, out, make)[0], []


if __name__ == "__main__":
    cli.run(Command, main)
