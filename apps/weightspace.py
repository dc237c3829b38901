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

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Optional, Union

from jgrid import cli, data
from jgrid.config import ArgumentError, Count, Share, Weight, config
from jgrid.picture import save_figure
from jgrid.run import make_folder, write_run
from jgrid.trainer import TrainConfig
from jgrid.weightspace import figures
from jgrid.weightspace.adapt import AdaptTask, DomainConfig, corrupt
from jgrid.weightspace.classifiers import Classifiers, Pairs, require_same_pictures
from jgrid.weightspace.grids import PARTS, GridPictures
from jgrid.weightspace.models import EDITORS, OF_ROWS, READERS, NetConfig
from jgrid.weightspace.study import StudyConfig, train_seeds
from jgrid.weightspace.subjects import ReductionConfig, Sines, SinesConfig, load_pictures
from jgrid.weightspace.tasks import EmbedTask, ForwardTask, Projected, ReadTask, split
from jgrid.weightspace.weights import Shift, Turn, ViewConfig, zoo_weights
from jgrid.weightspace.zoo import FitConfig, Zoo, fit_zoo

import numpy as np
import tyro
from typing_extensions import Literal

FLAT = tyro.conf.arg(name="")  # a part of a config whose flags have no prefix

Out = Annotated[
    Optional[Path], tyro.conf.arg(help="Folder for the results; default out/weightspace-JOB.")
]
Device = Annotated[cli.Device, tyro.conf.arg(help="auto takes CUDA where it is usable.")]
Readers = Annotated[
    tuple[Literal[tuple(READERS)], ...], tyro.conf.arg(help="Networks to train and compare.")
]
Editors = Annotated[
    tuple[Literal[tuple(EDITORS)], ...], tyro.conf.arg(help="Networks to train and compare.")
]
Signs = Annotated[
    Literal["canonical", "vary", "keep"],
    tyro.conf.arg(
        help="A neuron of sines may change sign, sin(-u) = -sin(u), and the field stays: give all"
        " neurons the sign of a rule, vary the signs in training, or do neither."
    ),
]
PICTURES = (
    "an idx file of pictures (its labels beside it); a folder with such files, with CIFAR-10's"
    " binary version, or with a sub-folder of pictures for each class. A name that is not here is"
    " looked for in $JGRID_DATA, or in data/."
)
Subject = Annotated[str, tyro.conf.arg(help=f"What they are of: sines; {PICTURES}")]
Folder = Annotated[str, tyro.conf.arg(help=f"What they are of: {PICTURES}")]
Kind = Annotated[
    Literal["siren", "mulfa"],
    tyro.conf.arg(
        help="The fields: a SIREN, or, of pictures, a MulFAGrid of 4 x 4 cells and 6 channels with"
        " a decoder of the hidden layers."
    ),
]


def require_models(config):
    if not config.models:
        raise ArgumentError("models", "needs one at least")


@config
class StockConfig:
    """Where a job's networks come from."""

    zoo: Optional[Path] = None
    """A zoo.safetensors of an earlier run, instead of fitting one."""
    fields: Count = 3000
    """Networks in the zoo."""
    held_out: Count = 500
    """Networks of the zoo that are tested on."""
    fit: FitConfig = FitConfig()

    def check(self):
        if self.zoo is None:
            self.check_held_out(self.fields)

    def check_held_out(self, fields):
        if self.held_out >= fields:
            raise ArgumentError(
                "held_out",
                f"must be less than the number of networks, {fields}, got {self.held_out}",
            )


@config
class MaskConfig:
    """What training does not see exactly."""

    view_noise: Weight = 0.0
    """Noise on the weights in training, in their standard deviations."""
    view_drop: Share = 0.0
    """Probability with which a weight is masked in training."""


@config
class MoveConfig:
    """How fields are moved in training."""

    view_scale: Share = 0.0
    """Coordinates of the fields are multiplied by up to 1 +- this in training."""
    view_shift: Shift = 0.0
    """Fields are moved in training by up to this along each coordinate, which is in [-1, 1]."""


@config
class ZooConfig:
    """Fit a zoo of small networks, and keep it."""

    out: Out = None
    device: Device = "auto"
    subject: Subject = "sines"
    kind: Kind = "siren"
    fields: Count = 3000
    """Networks in the zoo."""
    reduction: Annotated[ReductionConfig, FLAT] = ReductionConfig()
    sines: Annotated[SinesConfig, FLAT] = SinesConfig()
    fit: FitConfig = FitConfig()

    def check(self):
        if self.kind == "mulfa" and self.subject == "sines":
            raise ArgumentError("kind", "mulfa needs a `subject` of pictures")


@config
class ClassifyConfig:
    """Tell the classes of pictures from the weights of their fields."""

    out: Out = None
    device: Device = "auto"
    subject: Folder = "mnist"
    kind: Kind = "siren"
    reduction: Annotated[ReductionConfig, FLAT] = ReductionConfig()
    # fields that are fitted gently are easier to read than those of many more decibels
    stock: Annotated[StockConfig, FLAT] = StockConfig(
        fields=8000, held_out=1200, fit=FitConfig(lr=3e-3)
    )
    models: Readers = ("dwsnet", "mlp")
    read: tuple[Literal[tuple(PARTS)], ...] = tuple(PARTS)
    """Which parts of a MulFAGrid the networks see."""
    signs: Signs = "canonical"
    masks: Annotated[MaskConfig, FLAT] = MaskConfig()
    view_turn: Turn = 0.0
    """Largest angle by which fields are turned in training, in degrees; 45 in the published
    classifications, which have --view-scale 0.2 --view-shift 0.25 --view-noise 0.1 --view-drop 0.01
    besides."""
    moves: Annotated[MoveConfig, FLAT] = MoveConfig()
    study: Annotated[StudyConfig, FLAT] = StudyConfig(
        net=NetConfig(channels=16),
        train=TrainConfig(steps=850, batch=128, warmup=100, decay=0.01, eval_every=425),
    )

    def check(self):
        require_models(self)
        if not self.read:
            raise ArgumentError("read", "needs one part at least")
        if self.stock.zoo is None:
            self.check_kind(grids=self.kind == "mulfa")

    def check_kind(self, grids):
        """ArgumentError for what does not go with grids, or with SIRENs."""
        rows = OF_ROWS & set(self.models)
        if grids and rows:
            raise ArgumentError("models", f"{', '.join(rows)} read rows of neurons, not grids")
        if grids and (self.view_turn or self.moves.view_scale or self.moves.view_shift):
            raise ArgumentError(
                "view_turn", "and `view_scale` and `view_shift` move fields of sines, not grids"
            )
        if not grids and self.read != tuple(PARTS):
            raise ArgumentError("read", "chooses parts of grids (`kind` mulfa); SIRENs have none")


REGRESSION = TrainConfig(steps=1000, batch=64, warmup=100, decay=0.01, eval_every=250)
CONTRAST = TrainConfig(steps=1000, batch=128, warmup=100, decay=0.01, eval_every=250)
EVALUATION = TrainConfig(steps=4000, batch=128, warmup=100, decay=0.01, eval_every=250)


@config
class RegressConfig:
    """Tell the frequencies of sines from the weights of their fields."""

    out: Out = None
    device: Device = "auto"
    sines: Annotated[SinesConfig, FLAT] = SinesConfig()
    stock: Annotated[StockConfig, FLAT] = StockConfig(fit=FitConfig(steps=500))
    models: Readers = ("dwsnet", "mlp")
    signs: Signs = "canonical"
    masks: Annotated[MaskConfig, FLAT] = MaskConfig()
    study: Annotated[StudyConfig, FLAT] = StudyConfig(
        net=NetConfig(channels=16, depth=3), train=REGRESSION
    )

    def check(self):
        require_models(self)


@config
class EmbedConfig:
    """Embed fields of sines by contrast, and draw where they come to lie."""

    out: Out = None
    device: Device = "auto"
    sines: Annotated[SinesConfig, FLAT] = SinesConfig(lowest=0.0, amplitude=10.0)
    stock: Annotated[StockConfig, FLAT] = StockConfig(fit=FitConfig(steps=500))
    models: Readers = ("dwsnet", "mlp")
    signs: Signs = "canonical"
    masks: Annotated[MaskConfig, FLAT] = MaskConfig(view_noise=0.2, view_drop=0.5)
    moves: Annotated[MoveConfig, FLAT] = MoveConfig()
    study: Annotated[StudyConfig, FLAT] = StudyConfig(
        net=NetConfig(channels=16, depth=3), train=CONTRAST
    )

    def check(self):
        require_models(self)


@config
class AdaptConfig:
    """Change the weights of picture classifiers, in one pass, for another domain."""

    out: Out = None
    device: Device = "auto"
    subject: Folder = "mnist"
    kind: Literal["mlp", "cnn"] = "mlp"
    """The classifiers: an MLP on all pixels, or 3 x 3 convolutions of stride 2, one for each hidden
    layer, and a linear layer of their means."""
    pictures: Count = 200
    """Pictures to which each classifier is fitted."""
    reduction: Annotated[ReductionConfig, FLAT] = ReductionConfig()
    domain: Annotated[DomainConfig, FLAT] = DomainConfig()
    stock: Annotated[StockConfig, FLAT] = StockConfig(
        fields=600, held_out=120, fit=FitConfig(steps=100)
    )
    models: Editors = ("dwsnet", "mlp")
    study: Annotated[StudyConfig, FLAT] = StudyConfig(
        seeds=3,
        net=NetConfig(channels=8, depth=3, lr=3e-4),
        train=TrainConfig(steps=400, batch=16, eval_every=100),
    )

    def check(self):
        require_models(self)


# the published experiment's domain, with strengths and sizes of our own, for CUDA: never run on
# CIFAR-10 itself
ADAPT_CIFAR = AdaptConfig(
    out=Path("out/weightspace-adapt-cifar"),
    subject="cifar-10",
    kind="cnn",
    pictures=1000,
    reduction=ReductionConfig(side=32, crop=0),
    domain=DomainConfig(rotation=30.0, noise=0.1, flip=0.5, jitter=0.4),
    stock=StockConfig(fields=2000, held_out=400, fit=FitConfig(hidden=(16, 16, 16), lr=3e-3)),
    study=StudyConfig(
        seeds=3,
        net=NetConfig(channels=16, lr=1e-3),
        train=TrainConfig(steps=4000, batch=16, warmup=100, eval_every=500),
    ),
)


@config
class ForwardConfig:
    """Learn to evaluate a field from its weights and a point."""

    out: Out = None
    device: Device = "auto"
    subject: Subject = "sines"
    reduction: Annotated[ReductionConfig, FLAT] = ReductionConfig()
    sines: Annotated[SinesConfig, FLAT] = SinesConfig(highest=2.0)
    stock: Annotated[StockConfig, FLAT] = StockConfig()
    models: Editors = ("dwsnet", "mlp")
    signs: Literal["canonical", "keep"] = "canonical"
    """A neuron of sines may change sign, sin(-u) = -sin(u), and the field stays: give all neurons
    the sign of a rule, or leave them as they are."""
    study: Annotated[StudyConfig, FLAT] = StudyConfig(
        net=NetConfig(channels=16, depth=3), train=EVALUATION
    )

    def check(self):
        require_models(self)


def main(config):
    """Run the app; returns the result."""
    job = JOBS[type(config)]
    with cli.user_errors(config):
        device = cli.start(config.device, 0)  # each network is trained from a seed of its own
    out = config.out or Path("out") / f"weightspace-{job.__name__}"
    zoo, result, drawn = job(config, out)
    if zoo.config["activation"] == "sine":
        drawn = {"fields": figures.fields(zoo), **drawn}
    quality = zoo.config["quality"]
    result = {
        **result,
        "fields": len(zoo),
        "seconds": round(zoo.config["seconds"], 4),
        f"mean_{quality}": float(zoo.quality.mean()),
        f"least_{quality}": float(zoo.quality.min()),
        "device": device,
    }
    write_run(out, config, result)
    for name, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        print(f"{name}: {value}")
    for name, figure in drawn.items():
        print(save_figure(out / f"{name}.png", figure))
    return result


# The jobs: from a config and a folder to (zoo, results, {name: figure})


def zoo(config, out):
    with cli.user_errors(config):
        subject = of_kind(config.kind, fields_of(config))
        return fit_zoo(subject, config.fields, config.fit, out), {}, {}


def classify(config, out):
    """Classes of pictures."""
    with cli.user_errors(config):
        zoo = take_zoo(
            config.stock,
            out,
            lambda: of_kind(config.kind, pictures_of(config)),
            ("pictures", "grids"),
            # which need not be what `kind` says
            lambda zoo: config.check_kind(grids=zoo.kind == "grids"),
        )
    moves = config.moves
    views = views_of(config, turn=config.view_turn, scale=moves.view_scale, shift=moves.view_shift)
    train, test = split(len(zoo), config.stock.held_out, 0)
    results, _ = read(config, out, zoo, zoo.labels, views, config.read)
    chance = np.bincount(zoo.labels[test]).max() / len(test)
    return zoo, {**results, "chance": float(chance)}, {}


def regress(config, out):
    """The frequencies of sines."""
    with cli.user_errors(config):
        zoo = take_zoo(config.stock, out, lambda: Sines(**asdict(config.sines)), ("sines",))
    _, test = split(len(zoo), config.stock.held_out, 0)
    frequencies = zoo.labels[:, 1:]
    results, studied = read(config, out, zoo, frequencies, views_of(config))
    found = {name: one.task.predicted(one.learner, test)[:, 0] for name, one in studied.items()}
    figure = figures.predictions(frequencies[test][:, 0], found, "frequency")
    return zoo, {**results, "predict_mean": predict_mean(studied)}, {"frequencies": figure}


def read(config, out, zoo, labels, views, parts=tuple(PARTS)):
    """Train networks from weights to labels."""
    train, test = split(len(zoo), config.stock.held_out, 0)

    def make(model, seed):
        weights = model_weights(model, zoo, train, views, parts)
        task = ReadTask(weights, labels, train, test, seed)
        return task, READERS[model](weights.space, task.n_out, config.study.net, 1)

    return compare(config, out, make)


def embed(config, out):
    """Embeddings by contrast, a linear regression from them to (a, b), and their t-SNE."""
    with cli.user_errors(config):
        figures.find_tsne()
        zoo = take_zoo(config.stock, out, lambda: Sines(**asdict(config.sines)), ("sines",))
    views = views_of(config, scale=config.moves.view_scale, shift=config.moves.view_shift)
    train, test = split(len(zoo), config.stock.held_out, 0)

    def make(model, seed):
        weights = model_weights(model, zoo, train, views)
        task = EmbedTask(weights, zoo.labels, train, test, seed=seed)
        encoder = READERS[model](weights.space, task.n_out, config.study.net, 1)
        return task, Projected(encoder, task.n_out)

    results, studied = compare(config, out, make)
    found = {name: one.task.embedded(one.learner, test) for name, one in studied.items()}
    figure = figures.embedding(found, zoo.labels[test], ("amplitude a", "frequency b"))
    return zoo, {**results, "predict_mean": predict_mean(studied)}, {"embedding": figure}


def adapt(config, out):
    """Classifiers for another domain from classifiers for clean pictures."""
    rng = np.random.default_rng(config.study.train.seed)
    with cli.user_errors(config):
        pictures = pictures_of(config)
        # a fifth of the pictures is seen by no classifier and no adaptation
        last = len(pictures) * 4 // 5
        parts = (pictures.part(0, last), pictures.part(last, len(pictures)))
        domain = [Pairs(corrupt(p.pixels, config.domain, rng), p.labels) for p in parts]
        zoo = take_zoo(
            config.stock,
            out,
            lambda: Classifiers(parts[0], config.pictures, config.kind),
            ("classifiers",),
            lambda zoo: require_same_pictures(zoo, *domain),
        )
    train, test = split(len(zoo), config.stock.held_out, 0)

    def make(model, seed):
        weights = zoo_weights(zoo, train)
        task = AdaptTask(weights, zoo.labels, train, test, *domain, seed)
        return task, EDITORS[model](weights.space, config.study.net)

    results, studied = compare(config, out, make)
    first = config.models[0]
    clean = parts[1].pixels
    on_clean = studied[first].task.accuracy(None, Pairs(clean, parts[1].labels))
    about = {
        "no adaptation": {"accuracy": results[first]["accuracy_unadapted"]},
        "on clean pictures": {"accuracy": on_clean},
    }
    figure = figures.domains(clean[:10], domain[1].pixels[:10], clean.shape[1])
    return zoo, {**results, **about}, {"domains": figure}


def forward(config, out):
    """The fields' values from their weights and a point."""
    with cli.user_errors(config):
        zoo = take_zoo(config.stock, out, lambda: fields_of(config), ("sines", "pictures"))
    views = ViewConfig(signs=config.signs)
    train, test = split(len(zoo), config.stock.held_out, 0)
    dim = zoo.weights["W1"].shape[2]

    def make(model, seed):
        weights = zoo_weights(zoo, train, views)
        task = ForwardTask(weights, zoo.config["omega"], dim, train, test, seed)
        return task, READERS[model](weights.space, 1, config.study.net, 1 + dim)

    return zoo, compare(config, out, make)[0], {}


# What the jobs share


def fields_of(config):
    """What fields are of: sines or pictures."""
    return Sines(**asdict(config.sines)) if config.subject == "sines" else pictures_of(config)


def pictures_of(config):
    return load_pictures(data.find(config.subject), config.reduction.side, config.reduction.crop)


def of_kind(kind, pictures):
    return GridPictures(pictures) if kind == "mulfa" else pictures


def take_zoo(stock, out, make_subject, kinds, check=lambda zoo: None):
    """A saved zoo of one of these kinds that passes the check, or one fitted to the subject."""
    if stock.zoo is None:
        return fit_zoo(make_subject(), stock.fields, stock.fit, out)
    zoo = Zoo.load(stock.zoo)
    try:
        if zoo.kind not in kinds:
            raise ValueError(f"its networks are {zoo.kind}, needed are {' or '.join(kinds)}")
        stock.check_held_out(len(zoo))
        check(zoo)
    except ValueError as error:
        raise ValueError(f"{stock.zoo}: {error}") from None
    make_folder(out)
    return zoo


def views_of(config, **moves):
    masks = config.masks
    return ViewConfig(signs=config.signs, noise=masks.view_noise, drop=masks.view_drop, **moves)


def model_weights(model, zoo, train, views, parts=tuple(PARTS)):
    """The zoo's weights as a model sees them: aligned, or varied."""
    views = replace(views, permute=model == "mlp-permuted")
    return zoo_weights(zoo, train, views, parts, aligned=model == "mlp-aligned")


def compare(config, out, make):
    """Train the models: {model: results} and {model: Studied}; make(model, seed) -> (task,
    network)."""
    studied = {}
    for model in config.models:
        one = train_seeds(model, partial(make, model), config.study, out)
        studied[model] = one
        scores = ", ".join(f"{score:.4f}" for score in one.results[f"{one.task.metric}_seeds"])
        print(f"{model}: {one.task.metric} {scores}", flush=True)
    return {model: one.results for model, one in studied.items()}, studied


def predict_mean(studied):
    """The error of the mean of the labels, whatever the weights."""
    return {"mse": next(iter(studied.values())).task.predict_mean}


JOBS = {
    ZooConfig: zoo,
    ClassifyConfig: classify,
    RegressConfig: regress,
    EmbedConfig: embed,
    AdaptConfig: adapt,
    ForwardConfig: forward,
}
COMMANDS = {
    "zoo": ZooConfig(),
    "classify": ClassifyConfig(),
    "regress": RegressConfig(),
    "embed": EmbedConfig(),
    "adapt": AdaptConfig(),
    "adapt-cifar": ADAPT_CIFAR,
    "forward": ForwardConfig(),
}
Command = Union[
    tuple(
        Annotated[type(config), tyro.conf.subcommand(name, default=config, prefix_name=False)]
        for name, config in COMMANDS.items()
    )
]

if __name__ == "__main__":
    cli.run(Command, main)
