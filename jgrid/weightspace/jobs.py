"""What is done with a zoo: networks of several kinds are trained on its weights, and compared."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

from jgrid.config import Count, config
from jgrid.run import make_folder
from jgrid.weightspace import figures
from jgrid.weightspace.adapt import AdaptTask
from jgrid.weightspace.classifiers import Pairs
from jgrid.weightspace.edit import ChangeConfig, EditTask
from jgrid.weightspace.fits import FitConfig, fit_sirens
from jgrid.weightspace.grids import PARTS
from jgrid.weightspace.models import (
    ASK_THE_FIELD,
    EDITORS,
    FIELD_EDITORS,
    KNOW_ALL_SIGNS,
    READERS,
)
from jgrid.weightspace.study import Studied, StudyConfig, train_seeds
from jgrid.weightspace.subjects import Pictures
from jgrid.weightspace.tasks import EmbedTask, ForwardTask, Projected, ReadTask
from jgrid.weightspace.weights import ViewConfig, Weights, zoo_weights
from jgrid.weightspace.zoo import AbstractSubject, Zoo, divide, fit_zoo

import numpy as np
from matplotlib.figure import Figure

ALL = tuple(PARTS)
REFITTED = 128  # changed pictures to which fields are fitted for comparison
DRAWN = 8  # fields that are drawn before and after


@config
class StockConfig:
    """Where a job's networks come from."""

    zoo: Optional[Path] = None
    """A zoo.safetensors of an earlier run, instead of fitting one."""
    fields: Count = 3000
    """Networks in the zoo."""
    held_out: Count = 500
    """Networks of the zoo that are tested on, where its subject does not say which."""
    fit: FitConfig = FitConfig()

    def take(
        self,
        out: Union[str, os.PathLike],
        make_subject: Callable[[], AbstractSubject],
        kinds: tuple[str, ...],
        check: Callable[[Zoo], object] = lambda zoo: None,
    ) -> Zoo:
        """A saved zoo of one of these kinds that passes the check, or one fitted to the subject;
        ValueError, which names the file."""
        if self.zoo is None:
            subject = make_subject()
            divide(self.fields, self.held_out, subject.test)
            return fit_zoo(subject, self.fields, self.fit, out)
        zoo = Zoo.load(self.zoo)
        try:
            if zoo.kind not in kinds:
                raise ValueError(f"its networks are {zoo.kind}, needed are {' or '.join(kinds)}")
            zoo.split(self.held_out)
            check(zoo)
        except ValueError as error:
            raise ValueError(f"{self.zoo}: {error}") from None
        make_folder(Path(out))
        return zoo


class Job(NamedTuple):
    """A comparison: the networks by their names in `models`, how they are trained, the networks of
    the zoo (to train on, to test on), and the folder for what is left of each."""

    models: tuple[str, ...]
    study: StudyConfig
    zoo: Zoo
    train: np.ndarray
    test: np.ndarray
    out: Path

    def compare(self, make: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Studied]]:
        """({model: results}, {model: Studied}); make(model, seed) -> (task, network). The results
        say which networks ask the field."""
        studied = {}
        for model in self.models:
            one = train_seeds(model, partial(make, model), self.study, self.out)
            one.results["seconds"] = one.results["seconds_train"]
            one.results["asks_field"] = model in ASK_THE_FIELD
            studied[model] = one
            scores = ", ".join(f"{score:.4f}" for score in one.results[f"{one.task.metric}_seeds"])
            print(f"{model}: {one.task.metric} {scores}", flush=True)
        return {model: one.results for model, one in studied.items()}, studied

    def weights(self, model: str, views: ViewConfig, parts: tuple[str, ...] = ALL) -> Weights:
        """The zoo's weights as a model sees them: aligned, or varied."""
        signs = "keep" if model in KNOW_ALL_SIGNS else views.signs
        views = replace(views, signs=signs, permute=model == "mlp-permuted")
        return zoo_weights(self.zoo, self.train, views, parts, aligned=model == "mlp-aligned")

    def read(
        self, labels: np.ndarray, views: ViewConfig, parts: tuple[str, ...] = ALL
    ) -> tuple[dict[str, Any], dict[str, Studied]]:
        """From weights to labels: classes (F,), or values (F, n)."""

        def make(model: str, seed: int) -> tuple:
            weights = self.weights(model, views, parts)
            task = ReadTask(weights, labels, self.train, self.test, seed)
            return task, READERS[model](weights, task.n_out, self.study.net, 1)

        return self.compare(make)

    def embed(self, views: ViewConfig) -> tuple[dict[str, Any], Figure]:
        """Embeddings by contrast, a linear regression from them to (a, b), and their t-SNE."""

        def make(model: str, seed: int) -> tuple:
            weights = self.weights(model, views)
            task = EmbedTask(weights, self.zoo.labels, self.train, self.test, seed=seed)
            encoder = READERS[model](weights, task.n_out, self.study.net, 1)
            return task, Projected(encoder, task.n_out)

        results, studied = self.compare(make)
        found = {name: one.task.embedded(one.learner, self.test) for name, one in studied.items()}
        names = ("amplitude a", "frequency b")
        figure = figures.embedding(found, self.zoo.labels[self.test], names)
        return {**results, "predict_mean": predict_mean(studied)}, figure

    def adapt(self, clean: Pictures, known: Pairs, unseen: Pairs) -> tuple[dict[str, Any], Figure]:
        """Classifiers for another domain from classifiers for clean pictures. clean: the unseen
        pictures as they were; known, unseen: corrupted ones."""

        def make(model: str, seed: int) -> tuple:
            weights = zoo_weights(self.zoo, self.train)
            labels = self.zoo.labels
            task = AdaptTask(weights, labels, self.train, self.test, known, unseen, seed)
            return task, EDITORS[model](weights.space, self.study.net)

        results, studied = self.compare(make)
        first = self.models[0]
        on_clean = studied[first].task.accuracy(None, Pairs(clean.pixels, clean.labels))
        about = {
            "no adaptation": {"accuracy": results[first]["accuracy_unadapted"]},
            "on clean pictures": {"accuracy": on_clean},
        }
        figure = figures.domains(clean.pixels[:10], unseen.pixels[:10], clean.pixels.shape[1])
        return {**results, **about}, figure

    def edit(
        self, pictures: Pictures, change: ChangeConfig, views: ViewConfig
    ) -> tuple[dict[str, Any], Figure]:
        """Fields of changed pictures from the fields of the pictures. Beside the networks: the
        fields as they are, their renderings changed pixel by pixel, and fields that are fitted to
        some of the changed pictures as the zoo's were."""
        truth = change.apply(pictures.pixels[: len(self.zoo)])

        def make(model: str, seed: int) -> tuple:
            weights = self.weights(model, views)
            task = EditTask(weights, truth, pictures.points, self.train, self.test, seed)
            return task, FIELD_EDITORS[model](weights, self.study.net)

        results, studied = self.compare(make)
        task = studied[self.models[0]].task
        before = task.rendered(None, self.test).reshape(truth[self.test].shape)
        changed = change.apply(np.clip(before, 0, 1))
        some = self.test[:REFITTED]
        fit = self.zoo.config["made"]["fit"]
        fit = FitConfig(**{**fit, "hidden": tuple(fit["hidden"])})
        rng = np.random.default_rng(fit.seed)
        _, quality = fit_sirens(pictures.points, task.values[some], fit, rng)
        about = {
            "unchanged": {"mse": task.score(None, self.test)},
            "changed pixels": {"mse": float(((changed - truth[self.test]) ** 2).mean())},
            "fitted": {"mse": float((10 ** (-quality / 10)).mean()), "fields": len(some)},
        }
        shown = self.test[:DRAWN]
        rows = {"before": before[:DRAWN]}
        for model, one in studied.items():
            one.learner.eval()
            rows[model] = one.task.rendered(one.learner, shown).reshape(truth[shown].shape)
        return {**results, **about}, figures.edits({**rows, "truth": truth[shown]})

    def forward(self, views: ViewConfig) -> dict[str, Any]:
        """The fields' values from their weights and a point."""
        dim = self.zoo.weights["W1"].shape[2]

        def make(model: str, seed: int) -> tuple:
            weights = zoo_weights(self.zoo, self.train, views)
            omega = self.zoo.config["omega"]
            task = ForwardTask(weights, omega, dim, self.train, self.test, seed)
            return task, READERS[model](weights, 1, self.study.net, 1 + dim)

        return self.compare(make)[0]


def predict_mean(studied: dict[str, Studied]) -> dict[str, float]:
    """The error of the mean of the labels, whatever the weights."""
    return {"mse": next(iter(studied.values())).task.predict_mean}
