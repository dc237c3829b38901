"""The training loop: it learns, repeats itself, stays flat in memory, stops loudly; every flag
counts."""

import dataclasses
import gc
import json
import os
from pathlib import Path

from jgrid import trainer as trainer_module
from jgrid.field import DecoderConfig, DenseGridConfig, Domain
from jgrid.image.task import ImageTask
from jgrid.trainer import COMPILING_STEPS, TrainConfig, Trainer, TrainingStopped

import jittor as jt
import numpy as np
import pytest
from conftest import alike

# 12 x 16, 2 channels
PIXELS = np.stack(
    np.meshgrid(np.linspace(0.1, 0.9, 16), np.linspace(0.9, 0.2, 12)), axis=-1
).astype(np.float32)
BASE = TrainConfig(steps=12, batch=64, seed=0, warmup=2, decay=0.5, eval_every=4, ema=0.0, clip=0.0)


def small_field(lr=0.02):
    return DenseGridConfig(
        finest=8,
        coarsest=4,
        levels=2,
        channels=2,
        profile="linear",
        decoder=DecoderConfig(width=8, depth=1),
        lr_features=lr,
        lr_network=lr / 4,
    )


def values(model):
    return {name: p.numpy() for name, p in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(alike(a[name], b[name]) for name in a)


class Watched(ImageTask):
    """An image task that notes the model's weights and the batch before every step, and spoils the
    loss if told so."""

    def __init__(self, seed=0, factor=None):
        super().__init__(PIXELS, seed)
        self.factor = factor or (lambda step: 1.0)
        self.before = []
        self.batches = []
        self.evaluated = []
        self.model = None

    def loss(self, model, batch):
        step = len(self.before)
        self.before.append(values(model))
        self.batches.append(batch["x"].shape[0])
        return {
            name: value * self.factor(step) for name, value in super().loss(model, batch).items()
        }

    def evaluate(self, model):
        self.evaluated.append(values(model))
        return super().evaluate(model)


def trained(config, out_dir=None, lr=0.02, factor=None):
    """(trainer, model, result) of a run as an app makes it: one seed for the weights and the order
    of the pixels."""
    jt.set_global_seed(config.seed)
    task = Watched(config.seed, factor)
    model = small_field(lr).build(Domain(2, 2, task.aspect))
    trainer = Trainer(task, model, config, out_dir, progress=False)
    return trainer, model, trainer.fit()


def test_learns_a_small_picture():
    trainer, _, result = trained(
        dataclasses.replace(BASE, steps=200, eval_every=50, warmup=10, decay=0.1)
    )
    psnrs = [line["psnr"] for line in trainer.history]
    assert psnrs[0] > 15 and psnrs[-1] > psnrs[0] + 3 and psnrs[-1] > 28
    assert result["psnr"] == psnrs[-1]
    assert result["loss"] < 2e-3


def test_result_says_what_was_done():
    _, model, result = trained(BASE)
    assert result["steps"] == 12
    assert result["parameters"] == sum(v.size for v in values(model).values())
    assert 0 <= result["seconds_train"] <= result["seconds_total"]
    assert np.isfinite([result["psnr"], result["ssim"], result["loss"]]).all()


def test_a_seed_decides_the_weights_to_the_bit():
    first, again, other = (
        values(trained(dataclasses.replace(BASE, seed=seed))[1]) for seed in (3, 3, 4)
    )
    assert same(first, again)
    assert not same(first, other)


def outcome(config):
    trainer, model, _ = trained(config)
    return {
        **values(model),
        "batches": trainer.task.batches,
        "steps": [line["step"] for line in trainer.history],
    }


# what to change each flag to; a new flag has to be added here, and then has to change the outcome
CHANGED = {
    "steps": 13,
    "batch": 48,
    "seed": 1,
    "warmup": 5,
    "decay": 0.1,
    "eval_every": 5,
    "ema": 0.9,
    "clip": 1e-3,
    "minutes": 1e-9,
}
FREE = {"save_every"}  # says when checkpoints are written: tests/test_resume.py


def test_every_flag_counts():
    assert CHANGED.keys() | FREE == {f.name for f in dataclasses.fields(TrainConfig)}
    base = outcome(BASE)
    assert same(base, outcome(BASE))
    idle = [
        name
        for name, value in CHANGED.items()
        if same(base, outcome(dataclasses.replace(BASE, **{name: value})))
    ]
    assert not idle, f"changing these changes nothing: {idle}"


def test_batch_is_the_number_of_points():
    assert trained(dataclasses.replace(BASE, batch=48))[0].task.batches == [48] * 12
    # no more than there are
    assert trained(dataclasses.replace(BASE, batch=10**6))[0].task.batches == [12 * 16] * 12


@pytest.mark.parametrize("eval_every, steps", [(4, [4, 8, 12]), (5, [5, 10, 12]), (100, [12])])
def test_evaluations_come_when_asked_and_at_the_end(eval_every, steps):
    assert [
        line["step"]
        for line in trained(dataclasses.replace(BASE, eval_every=eval_every))[0].history
    ] == steps


def test_average_is_that_of_the_weights_of_each_step():
    """ema: a_0 = w_0, a_k = ema a_{k-1} + (1 - ema) w_k; evaluated and kept, without touching the
    training."""
    plain_trainer, plain, _ = trained(BASE)
    weights = plain_trainer.task.before + [values(plain)]
    average = weights[0]
    wanted = []
    for step in range(1, len(weights)):
        average = {name: 0.75 * average[name] + 0.25 * weights[step][name] for name in average}
        wanted += [average] if step in (4, 8, 12) else []
    trainer, model, _ = trained(dataclasses.replace(BASE, ema=0.75))
    for before, plain_before in zip(trainer.task.before, plain_trainer.task.before):
        for name in before:
            np.testing.assert_allclose(before[name], plain_before[name], rtol=1e-5, atol=1e-7)
    for found, expected in zip([*trainer.task.evaluated, values(model)], [*wanted, wanted[-1]]):
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_clipping_tames_one_huge_gradient():
    """Adam remembers a spike for long; a clipped one is as large as the others."""

    def spike(step):
        return 1e6 if step == 3 else 1.0

    def distance(clip):
        config = dataclasses.replace(BASE, clip=clip)
        calm = values(trained(config)[1])
        spiked = values(trained(config, factor=spike)[1])
        return sum(np.square(calm[name] - spiked[name]).sum() for name in calm)

    assert distance(1e-3) < 0.1 * distance(0.0)
    loose, unclipped = (
        values(trained(dataclasses.replace(BASE, clip=clip))[1]) for clip in (1e9, 0.0)
    )
    for name in loose:
        np.testing.assert_allclose(loose[name], unclipped[name], rtol=1e-4, atol=1e-6)


def test_rate_rises_then_falls_along_a_cosine():
    config = TrainConfig(steps=101, warmup=4, decay=0.2)
    rates = np.array([config.rate(step) for step in range(101)])
    np.testing.assert_allclose(
        rates[:3] / (0.2 + 0.8 * 0.5 * (1 + np.cos(np.pi * np.arange(3) / 100))),
        [0.2, 0.4, 0.6],
        rtol=1e-9,
    )
    assert np.isclose(rates[50], 0.2 + 0.8 * 0.5)
    assert np.isclose(rates[100], 0.2)
    assert (np.diff(rates[:5]) > 0).all() and (np.diff(rates[5:]) < 0).all()
    assert TrainConfig(steps=1, warmup=0).rate(0) == 1.0
    assert np.isclose(TrainConfig(steps=10, warmup=0, decay=1.0).rate(7), 1.0)


def test_minutes_stop_by_the_clock_and_the_schedule_follows_it(monkeypatch):
    """A clock that goes on by a second a step: ten seconds of training after the steps that
    compile, in which nothing decays."""
    clock = [0.0]
    monkeypatch.setattr(trainer_module.time, "time", lambda: clock[0])

    def tick(step):
        clock[0] += 1.0
        return 1.0

    config = dataclasses.replace(BASE, steps=3, minutes=10 / 60, eval_every=100, warmup=0)
    rates = []
    monkeypatch.setattr(
        TrainConfig,
        "rate",
        lambda self, *at, rate=TrainConfig.rate: rates.append(rate(self, *at)) or rates[-1],
    )
    _, _, result = trained(config, factor=tick)
    assert result["steps"] == COMPILING_STEPS + 10 and np.isclose(result["seconds_train"], 10)
    np.testing.assert_allclose(
        rates[COMPILING_STEPS:],
        [0.5 + 0.25 * (1 + np.cos(np.pi * s / 10)) for s in range(10)],
        rtol=1e-6,
    )
    assert config.rate(0, 600.0) == BASE.decay  # never below its end


def test_rate_reaches_every_group():
    trainer, _, _ = trained(BASE, lr=0.04)
    assert {g["name"]: g["lr"] for g in trainer.optimizer.param_groups} == {
        "features": 0.04,
        "network": 0.01,
    }


BAD = [
    ("steps", 0),
    ("batch", 0),
    ("eval_every", 0),
    ("warmup", -1),
    ("decay", 0.0),
    ("decay", 1.5),
    ("decay", float("nan")),
    ("ema", 1.0),
    ("ema", -0.1),
    ("clip", -1.0),
    ("clip", float("nan")),
    ("seed", -1),
    ("minutes", -1.0),
    ("minutes", float("nan")),
    ("save_every", -1.0),
    ("save_every", float("nan")),
]


@pytest.mark.parametrize("name, value", BAD, ids=[f"{name}-{value}" for name, value in BAD])
def test_bad_flags_are_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        TrainConfig(**{name: value})


def kernels():
    return sum(1 for _ in Path(jt.flags.cache_path, "jit").rglob("*.so"))


class Counting(Watched):
    """Counts compiled kernels and live variables where each evaluation begins and ends."""

    def __init__(self):
        super().__init__()
        self.compiled = []
        self.live = []

    def loss(self, model, batch):
        return ImageTask.loss(self, model, batch)

    def evaluate(self, model):
        gc.collect()
        self.compiled.append(kernels())
        self.live.append(jt.liveness_info()["lived_vars"])
        result = ImageTask.evaluate(self, model)
        self.compiled.append(kernels())
        return result


def counted(steps, eval_every, **flags):
    """A run at a learning rate no run has had before: a kernel that contained it would have to be
    compiled anew."""
    task = Counting()
    model = small_field(0.01 + 1e-3 * int.from_bytes(os.urandom(4), "little") / 2**32).build(
        Domain(2, 2, task.aspect)
    )
    Trainer(
        task,
        model,
        dataclasses.replace(BASE, steps=steps, eval_every=eval_every, **flags),
        progress=False,
    ).fit()
    return task


@pytest.mark.parametrize("flags", [{}, {"ema": 0.9, "clip": 0.1}], ids=["plain", "ema-clip"])
def test_steady_steps_compile_nothing(flags):
    task = counted(30, 10, **flags)
    warm = task.compiled[2:]  # from the second evaluation on, and the ten steps before the third
    assert len(warm) == 4 and len(set(warm)) == 1, task.compiled


@pytest.mark.parametrize("flags", [{}, {"ema": 0.9, "clip": 0.1}], ids=["plain", "ema-clip"])
def test_live_variables_stay_flat(flags):
    live = counted(250, 50, **flags).live
    assert len(live) == 5 and max(live[1:]) <= live[1], live


@pytest.mark.parametrize("first_bad, good_step", [(2, 0), (9, 8), (20, 20)])
def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_weights(first_bad, good_step):
    """The last good weights are those of the last evaluation before the loss went wrong."""
    with pytest.raises(TrainingStopped) as stopped:
        trainer_of_a_bad_loss = Trainer(
            task := Watched(factor=lambda step: float("nan") if step >= first_bad else 1.0),
            model := small_field(0.02).build(Domain(2, 2)),
            dataclasses.replace(BASE, steps=60),
            progress=False,
        )
        trainer_of_a_bad_loss.fit()
    message = str(stopped.value)
    assert "step" in message and "features" in message and "learning rate" in message
    assert int(message.split("at step ")[1].split()[0]) > first_bad
    assert same(values(model), task.before[good_step])
    assert all(np.isfinite(v).all() for v in values(model).values())


def test_an_enormous_learning_rate_stops():
    jt.set_global_seed(0)
    task = Watched()
    model = small_field(1e30).build(Domain(2, 2))
    with pytest.raises(TrainingStopped, match="1e\\+30|e\\+2|e\\+30"):
        Trainer(task, model, dataclasses.replace(BASE, steps=60), progress=False).fit()
    assert all(np.isfinite(v).all() for v in values(model).values())


def test_metrics_are_written_a_line_per_evaluation(tmp_path):
    trainer, _, result = trained(BASE, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == trainer.history
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert all(np.isfinite([line["psnr"], line["ssim"], line["loss"]]).all() for line in lines)
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds) and seconds[-1] == result["seconds_train"]


def test_the_line_of_an_evaluation_has_the_loss_of_its_step(tmp_path):
    """The loss grows tenfold from step to step here, so a stale one shows."""
    trainer, _, result = trained(
        dataclasses.replace(BASE, steps=6, eval_every=2),
        tmp_path,
        lr=1e-12,
        factor=lambda step: 10.0**step,
    )
    losses = [line["loss"] for line in trainer.history]
    assert 50 < losses[1] / losses[0] < 200 and 50 < losses[2] / losses[1] < 200, losses
    assert result["loss"] == losses[-1]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(BASE)
    assert not list(tmp_path.iterdir())


def test_progress_shows_a_bar_only_when_asked(capfd):
    for progress in (True, False):
        task = Watched()
        Trainer(
            task,
            small_field().build(Domain(2, 2)),
            dataclasses.replace(BASE, steps=2),
            progress=progress,
        ).fit()
        assert ("2/2" in capfd.readouterr().err) == progress
