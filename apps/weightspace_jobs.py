"""What apps/weightspace.py does with a zoo: train networks on its weights, compare them, and
draw."""

from dataclasses import replace

from jgrid import cli
from jgrid.field import check_memory
from jgrid.picture import save_figure
from jgrid.trainer import Trainer
from jgrid.weightspace import figures
from jgrid.weightspace.adapt import AdaptTask, corrupt
from jgrid.weightspace.baselines import align
from jgrid.weightspace.classifiers import Pairs
from jgrid.weightspace.grids import PARTS
from jgrid.weightspace.models import MODELS
from jgrid.weightspace.tasks import (
    EmbedTask,
    ForwardTask,
    Projected,
    Reader,
    ReadTask,
    outputs,
    split,
)
from jgrid.weightspace.weights import Weights, canonical_signs

import jittor as jt
import numpy as np


def halves(pictures):
    """Pictures that classifiers and adaptation see, and those, a fifth of all, that they do not."""
    last = len(pictures) * 4 // 5
    return pictures.part(0, last), pictures.part(last, len(pictures))


def over_seeds(config, out, make):
    """{model: results}, means over the seeds; make(model, seed) -> (task, network). Also the
    networks of the last seed, and its task."""
    results = {}
    networks = {}
    task = None
    for name in config.models:
        runs = []
        for seed in range(config.train.seed, config.train.seed + config.seeds):
            jt.set_global_seed(seed)
            task, network = make(name, seed)
            rate = config.net.lr if name == "dwsnet" else config.net.lr_baselines
            reader = Reader(network, rate, config.net.weight_decay)
            folder = cli.make_folder(out / f"{name}-{seed}")
            check_memory(reader, config.train.batch)
            runs.append(Trainer(task, reader, replace(config.train, seed=seed), folder).fit())
            cli.save_model(folder, network, {"job": config.job, "model": name, "seed": seed})
            print(f"{name}, seed {seed}: {task.metric} {runs[-1][task.metric]:.4f}", flush=True)
        networks[name] = (task, reader)
        results[name] = {
            key: value if isinstance(value, int) else float(np.mean([run[key] for run in runs]))
            for key, value in runs[0].items()
        }
        results[name][f"{task.metric}_seeds"] = [run[task.metric] for run in runs]
    return results, networks


def weights(config, zoo, train, name=None):
    """The zoo's weights as a model sees them: aligned, or varied."""
    starts = tuple(start for part in config.read for start in PARTS[part])
    space = zoo.space.part([key for key in zoo.weights if key.startswith(starts)])
    values = {key: zoo.weights[key] for key, _ in space.tensors}
    sines = zoo.config["activation"] == "sine"
    canonical = sines and config.signs == "canonical"
    if name == "mlp-aligned":
        values = canonical_signs(values) if canonical else values
        values = align(space, values, {key: value[train[0]] for key, value in values.items()})
    return Weights(
        space,
        values,
        train,
        permute=name == "mlp-permuted",
        signs=sines and config.signs == "vary",
        canonical=canonical,
        noise=config.view_noise,
        drop=config.view_drop,
        turn=config.view_turn,
        scale=config.view_scale,
        shift=config.view_shift,
    )


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
    found = {
        name: (outputs(reader, task.weights, test) * task.deviation + task.mean)[:, 0]
        for name, (task, reader) in networks.items()
    }
    return (
        {**results, "predict_mean": {"mse": task.predict_mean}},
        [
            save_figure(
                out / "frequencies.png", figures.predictions(labels[test][:, 0], found, "frequency")
            )
        ],
    )


def embed(config, zoo, pictures, out):
    """Embeddings by contrast, a linear regression from them to (a, b), and their t-SNE."""
    train, test = split(len(zoo.quality), config.held_out, 0)

    def make(name, seed):
        task = EmbedTask(weights(config, zoo, train, name), zoo.labels, train, test, seed=seed)
        return task, Projected(
            MODELS[name][0](task.weights.space, task.n_out, config.net, 1), task.n_out
        )

    results, networks = over_seeds(config, out, make)
    found = {name: outputs(reader, task.weights, test) for name, (task, reader) in networks.items()}
    predict_mean = networks[config.models[0]][0].predict_mean
    return (
        {**results, "predict_mean": {"mse": predict_mean}},
        [
            save_figure(
                out / "embedding.png",
                figures.embedding(found, zoo.labels[test], ("amplitude a", "frequency b")),
            )
        ],
    )


def adapt(config, zoo, pictures, out):
    """Classifiers for another domain from classifiers for clean pictures."""
    train, test = split(len(zoo.quality), config.held_out, 0)
    parts = halves(pictures)
    rng = np.random.default_rng(config.train.seed)
    known, unseen = (
        Pairs(
            corrupt(part.pixels, config.rotation, config.noise, rng, config.flip, config.jitter),
            part.labels,
        )
        for part in parts
    )

    def make(name, seed):
        task = AdaptTask(weights(config, zoo, train), zoo.labels, train, test, known, unseen, seed)
        return task, MODELS[name][1](task.weights.space, config.net)

    results, networks = over_seeds(config, out, make)
    task = networks[config.models[0]][0]
    clean = parts[1].pixels[:10]
    about = {
        "no adaptation": {"accuracy": results[config.models[0]]["accuracy_unadapted"]},
        "on clean pictures": {
            "accuracy": task.accuracy(None, Pairs(parts[1].pixels, parts[1].labels))
        },
    }
    return {**results, **about}, [
        save_figure(out / "domains.png", figures.domains(clean, unseen.pixels[:10], clean.shape[1]))
    ]


def forward(config, zoo, pictures, out):
    """The fields' values from their weights and a point."""
    train, test = split(len(zoo.quality), config.held_out, 0)
    dim = zoo.weights["W1"].shape[2]

    def make(name, seed):
        task = ForwardTask(weights(config, zoo, train), zoo.config["omega"], dim, train, test, seed)
        return task, MODELS[name][0](task.weights.space, 1, config.net, 1 + dim)

    return over_seeds(config, out, make)[0], []
