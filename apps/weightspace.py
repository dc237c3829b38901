"""Fit fields by the thousand, and learn from their weights.

    python apps/weightspace.py zoo --subject sines --fields 3000
    python apps/weightspace.py classify --subject mnist/t10k-images-idx3-ubyte.gz
    python apps/weightspace.py classify --subject mnist --size 28 --models dwsnet forward probes
    python apps/weightspace.py regress
    python apps/weightspace.py embed
    python apps/weightspace.py adapt --subject mnist/t10k-images-idx3-ubyte.gz
    python apps/weightspace.py adapt-cifar
    python apps/weightspace.py forward
    python apps/weightspace.py edit --subject mnist --size 28 --change dilate

Each job makes the zoo it needs, or takes one with --zoo; --help after the job lists its flags and
their values there."""

from dataclasses import asdict, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Optional, Union

from jgrid import cli, data
from jgrid.config import ArgumentError, Count, Share, Weight, config
from jgrid.picture import save_figure
from jgrid.run import make_folder, write_run
from jgrid.trainer import TrainConfig
from jgrid.weightspace import figures
from jgrid.weightspace.adapt import DomainConfig, corrupt
from jgrid.weightspace.classifiers import Classifiers, Pairs, require_same_pictures
from jgrid.weightspace.edit import ChangeConfig, require_fields_of
from jgrid.weightspace.fits import FitConfig
from jgrid.weightspace.foreign import load_foreign
from jgrid.weightspace.grids import PARTS, GridPictures
from jgrid.weightspace.jobs import Job, StockConfig, predict_mean
from jgrid.weightspace.models import (
    EDITORS,
    FIELD_EDITORS,
    OF_ROWS,
    OF_SINES,
    READERS,
    NetConfig,
)
from jgrid.weightspace.study import StudyConfig
from jgrid.weightspace.subjects import (
    ReductionConfig,
    Sines,
    SinesConfig,
    load_pictures,
    load_split,
)
from jgrid.weightspace.weights import Shift, Turn, ViewConfig
from jgrid.weightspace.zoo import fit_zoo

import numpy as np
import tyro
from typing_extensions import Literal

FLAT = tyro.conf.arg(name="")  # a part of a config whose flags have no prefix

Out = Annotated[
    Optional[Path], tyro.conf.arg(help="Folder for the results; default out/weightspace-JOB.")
]
Import = Annotated[
    Optional[Path],
    tyro.conf.arg(
        name="import",
        help="Take SIRENs that others fitted, instead of fitting: a safetensors or npz file, or a"
        " folder of them. Pickles are refused.",
    ),
]
Device = Annotated[cli.Device, tyro.conf.arg(help="auto takes CUDA where it is usable.")]
Readers = Annotated[
    tuple[Literal[tuple(READERS)], ...], tyro.conf.arg(help="Networks to train and compare.")
]
Editors = Annotated[
    tuple[Literal[tuple(EDITORS)], ...], tyro.conf.arg(help="Networks to train and compare.")
]
FieldEditors = Annotated[
    tuple[Literal[tuple(FIELD_EDITORS)], ...], tyro.conf.arg(help="Networks to train and compare.")
]
Signs = Annotated[
    Literal["canonical", "vary", "keep"],
    tyro.conf.arg(
        help="A neuron of sines may change sign, sin(-u) = -sin(u), or its phase by pi, and the"
        " field stays: give all neurons the sign and phase of a rule, vary the signs in training,"
        " or do neither."
    ),
]
Rule = Annotated[
    Literal["canonical", "keep"],
    tyro.conf.arg(
        help="A neuron of sines may change sign, sin(-u) = -sin(u), or its phase by pi, and the"
        " field stays: give all neurons the sign and phase of a rule, or leave them as they are."
    ),
]
PICTURES = (
    "an idx file of pictures (its labels beside it); a folder with such files, with CIFAR-10's"
    " binary version, or with a sub-folder of pictures for each class. A name that is not here is"
    " looked for in $JGRID_DATA, or in data/."
)
Subject = Annotated[str, tyro.conf.arg(help=f"What they are of: sines; {PICTURES}")]
Folder = Annotated[str, tyro.conf.arg(help=f"What they are of: {PICTURES}")]
Size = Annotated[
    Optional[Literal[28]],
    tyro.conf.arg(
        help="28: the published size, whole pictures of 28 x 28 pixels of a folder of idx files,"
        " all of them, with those to test on held out, and SIRENs 2-32-32-1 where no hidden layers"
        " are given. --side and --crop go without."
    ),
]
PUBLISHED_HIDDEN = (32, 32)
Kind = Annotated[
    Literal["siren", "mulfa"],
    tyro.conf.arg(
        help="The fields: a SIREN, or, of pictures, a MulFAGrid of 4 x 4 cells and 6 channels with"
        " a decoder of the hidden layers."
    ),
]


def require_whole(config):
    """ArgumentError where pictures of the published size shall be cut or reduced as well."""
    if config.size is not None and config.reduction != ReductionConfig():
        raise ArgumentError("size", "takes whole pictures: leave out `side` and `crop`")


def require_models(config):
    if not config.models:
        raise ArgumentError("models", "needs one at least")
    config.study.net.require_heeded(config.models)


def require_for_fitting(config, *names):
    """ArgumentError for what says how to fit fields, beside `zoo`, whose fields are as they are."""
    if config.stock.zoo is None:
        return
    jobs = [other for other in COMMANDS.values() if type(other) is type(config)]
    # in Python a job's stock may be made anew
    jobs += [replace(other, stock=StockConfig()) for other in jobs]
    for name in cli.flags(config):
        value = attrgetter(name)
        of_fitting = name.startswith((*names, "stock.fields", "stock.fit."))
        if of_fitting and all(value(config) != value(other) for other in jobs):
            raise ArgumentError(name, "is of a zoo to be fitted: leave it out beside `zoo`")


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
    import_: Import = None
    kind: Kind = "siren"
    size: Size = None
    fields: Count = 3000
    """Networks in the zoo."""
    reduction: Annotated[ReductionConfig, FLAT] = ReductionConfig()
    sines: Annotated[SinesConfig, FLAT] = SinesConfig()
    fit: FitConfig = FitConfig()

    def check(self):
        require_whole(self)
        if self.import_ is not None:
            self.require_alone()
        if self.subject == "sines" and (self.kind == "mulfa" or self.size is not None):
            name = "size" if self.size is not None else "kind"
            raise ArgumentError(name, f"{getattr(self, name)} needs a `subject` of pictures")

    def require_alone(self):
        """ArgumentError for what says how to fit fields that are imported."""
        used = replace(FitConfig(), omega=self.fit.omega)
        for entry in fields(self):
            value = getattr(self, entry.name)
            default = used if entry.name == "fit" else entry.default
            if entry.name not in ("out", "device", "import_") and value != default:
                raise ArgumentError(
                    "import_", f"takes fields as they are: leave out `{entry.name}`"
                )


@config
class ClassifyConfig:
    """Tell the classes of pictures from the weights of their fields."""

    out: Out = None
    device: Device = "auto"
    subject: Folder = "mnist"
    kind: Kind = "siren"
    size: Size = None
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
        require_whole(self)
        if not self.read:
            raise ArgumentError("read", "needs one part at least")
        require_for_fitting(self, "subject", "kind", "size", "reduction")
        if self.stock.zoo is None:
            self.check_kind(grids=self.kind == "mulfa")

    def check_kind(self, grids):
        """ArgumentError for what does not go with grids, or with SIRENs."""
        rows = sorted((OF_ROWS | OF_SINES) & set(self.models))
        if grids and rows:
            raise ArgumentError("models", f"{', '.join(rows)} read rows of SIRENs, not grids")
        if grids and (self.view_turn or self.moves.view_scale or self.moves.view_shift):
            raise ArgumentError(
                "view_turn", "and `view_scale` and `view_shift` move fields of sines, not grids"
            )
        if not grids and self.read != tuple(PARTS):
            raise ArgumentError("read", "chooses parts of grids (`kind` mulfa); SIRENs have none")


REGRESSION = TrainConfig(steps=1000, batch=64, warmup=100, decay=0.01, eval_every=250)
CONTRAST = TrainConfig(steps=1000, batch=128, warmup=100, decay=0.01, eval_every=250)
EDITION = TrainConfig(steps=1000, batch=32, warmup=100, decay=0.01, eval_every=250)
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
        require_for_fitting(self, "sines")


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
        require_for_fitting(self, "sines")


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
        require_for_fitting(self, "kind", "pictures")


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
    signs: Rule = "canonical"
    study: Annotated[StudyConfig, FLAT] = StudyConfig(
        net=NetConfig(channels=16, depth=3), train=EVALUATION
    )

    def check(self):
        require_models(self)
        require_for_fitting(self, "subject", "reduction", "sines")


@config
class EditConfig:
    """Change the pictures that fields are of, in one pass, by changing their weights."""

    out: Out = None
    device: Device = "auto"
    subject: Folder = "mnist"
    size: Size = None
    reduction: Annotated[ReductionConfig, FLAT] = ReductionConfig()
    change: Annotated[ChangeConfig, FLAT] = ChangeConfig()
    stock: Annotated[StockConfig, FLAT] = StockConfig(fit=FitConfig(lr=3e-3, steps=400))
    models: FieldEditors = ("dwsnet", "probes")
    signs: Rule = "canonical"
    study: Annotated[StudyConfig, FLAT] = StudyConfig(
        net=NetConfig(channels=16, probes=128, width=512), train=EDITION
    )

    def check(self):
        require_models(self)
        require_whole(self)
        # the pictures are needed beside a zoo too
        require_for_fitting(self)


def main(config):
    """Run the app; returns the result."""
    config = sized(config)
    job = JOBS[type(config)]
    with cli.user_errors(config):
        device = cli.start(config.device, 0)  # each network is trained from a seed of its own
    out = config.out or Path("out") / f"weightspace-{job.__name__}"
    zoo, result, drawn = job(config, out)
    if figures.can_draw(zoo):
        drawn = {"fields": figures.fields(zoo), **drawn}
    quality = zoo.config["quality"]
    result = {
        **result,
        "fields": len(zoo),
        "seconds": round(zoo.config["seconds"], 4),
        "weights": zoo.spread(),
        "device": device,
    }
    if quality != "unknown":
        result[f"mean_{quality}"] = float(zoo.quality.mean())
        result[f"least_{quality}"] = float(zoo.quality.min())
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
        if config.import_ is not None:
            zoo = load_foreign(config.import_, config.fit.omega)
            make_folder(out)
            zoo.save(out / "zoo.safetensors")
            return zoo, {}, {}
        subject = of_kind(config.kind, fields_of(config))
        return fit_zoo(subject, config.fields, config.fit, out), {}, {}


def classify(config, out):
    """Classes of pictures."""
    with cli.user_errors(config):
        job = prepare(
            config,
            out,
            lambda: of_kind(config.kind, pictures_of(config)),
            ("pictures", "grids"),
            # which need not be what `kind` says
            lambda zoo: config.check_kind(grids=zoo.kind == "grids"),
        )
    moves = config.moves
    views = views_of(config, turn=config.view_turn, scale=moves.view_scale, shift=moves.view_shift)
    labels = job.zoo.labels
    results, _ = job.read(labels, views, config.read)
    chance = np.bincount(labels[job.test]).max() / len(job.test)
    return job.zoo, {**results, "chance": float(chance)}, {}


def regress(config, out):
    """The frequencies of sines."""
    with cli.user_errors(config):
        job = prepare(config, out, lambda: Sines(**asdict(config.sines)), ("sines",))
    frequencies = job.zoo.labels[:, 1:]
    results, studied = job.read(frequencies, views_of(config))
    found = {name: one.task.predicted(one.learner, job.test)[:, 0] for name, one in studied.items()}
    figure = figures.predictions(frequencies[job.test][:, 0], found, "frequency")
    return job.zoo, {**results, "predict_mean": predict_mean(studied)}, {"frequencies": figure}


def embed(config, out):
    """Embeddings without labels."""
    with cli.user_errors(config):
        figures.find_tsne()
        job = prepare(config, out, lambda: Sines(**asdict(config.sines)), ("sines",))
    views = views_of(config, scale=config.moves.view_scale, shift=config.moves.view_shift)
    results, figure = job.embed(views)
    return job.zoo, results, {"embedding": figure}


def adapt(config, out):
    """Classifiers for another domain from classifiers for clean pictures."""
    rng = np.random.default_rng(config.study.train.seed)
    with cli.user_errors(config):
        pictures = pictures_of(config)
        # a fifth of the pictures is seen by no classifier and no adaptation
        last = len(pictures) * 4 // 5
        parts = (pictures.part(0, last), pictures.part(last, len(pictures)))
        domain = [Pairs(corrupt(p.pixels, config.domain, rng), p.labels) for p in parts]
        job = prepare(
            config,
            out,
            lambda: Classifiers(parts[0], config.pictures, config.kind),
            ("classifiers",),
            lambda zoo: require_same_pictures(zoo, *domain),
        )
    results, figure = job.adapt(parts[1], *domain)
    return job.zoo, results, {"domains": figure}


def forward(config, out):
    """The fields' values from their weights and a point."""
    with cli.user_errors(config):
        job = prepare(config, out, lambda: fields_of(config), ("sines", "pictures"))
    return job.zoo, job.forward(ViewConfig(signs=config.signs)), {}


def edit(config, out):
    """Fields of changed pictures from fields of the pictures."""
    with cli.user_errors(config):
        pictures = pictures_of(config)
        job = prepare(
            config,
            out,
            lambda: pictures,
            ("pictures",),
            lambda zoo: require_fields_of(zoo, pictures),
        )
    results, figure = job.edit(pictures, config.change, ViewConfig(signs=config.signs))
    return job.zoo, results, {"edits": figure}


# What the jobs share


def prepare(config, out, make_subject, kinds, check=lambda zoo: None):
    """The job's zoo, fitted or taken, and how it is divided."""
    zoo = config.stock.take(out, make_subject, kinds, check)
    return Job(config.models, config.study, zoo, *zoo.split(config.stock.held_out), out)


def of_kind(kind, pictures):
    return GridPictures(pictures) if kind == "mulfa" else pictures


def fields_of(config):
    """What fields are of: sines or pictures."""
    return Sines(**asdict(config.sines)) if config.subject == "sines" else pictures_of(config)


def pictures_of(config):
    path = data.find(config.subject)
    if getattr(config, "size", None) is not None:
        return load_split(path, config.size)
    return load_pictures(path, config.reduction.side, config.reduction.crop)


def sized(config):
    """The config with the hidden layers of its size, where none are given."""
    if getattr(config, "size", None) is None or getattr(config, "kind", "siren") == "mulfa":
        return config
    stock = config if isinstance(config, ZooConfig) else config.stock
    if stock.fit.hidden is not None or getattr(stock, "zoo", None) is not None:
        return config
    stock = replace(stock, fit=replace(stock.fit, hidden=PUBLISHED_HIDDEN))
    return stock if isinstance(config, ZooConfig) else replace(config, stock=stock)


def views_of(config, **moves):
    masks = config.masks
    return ViewConfig(signs=config.signs, noise=masks.view_noise, drop=masks.view_drop, **moves)


JOBS = {
    ZooConfig: zoo,
    ClassifyConfig: classify,
    RegressConfig: regress,
    EmbedConfig: embed,
    AdaptConfig: adapt,
    ForwardConfig: forward,
    EditConfig: edit,
}
COMMANDS = {
    "zoo": ZooConfig(),
    "classify": ClassifyConfig(),
    "regress": RegressConfig(),
    "embed": EmbedConfig(),
    "adapt": AdaptConfig(),
    "adapt-cifar": ADAPT_CIFAR,
    "forward": ForwardConfig(),
    "edit": EditConfig(),
}
Command = Union[
    tuple(
        Annotated[type(config), tyro.conf.subcommand(name, default=config, prefix_name=False)]
        for name, config in COMMANDS.items()
    )
]

if __name__ == "__main__":
    cli.run(Command, main)
