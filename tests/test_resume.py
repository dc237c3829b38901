"""Runs that go on: to the bit, from the checkpoint of a signal or of the clock, or with one clear
error."""

import dataclasses
import json
import signal

from jgrid import checkpoint
from jgrid.field import Domain, in_chunks
from jgrid.interrupt import Interrupted
from jgrid.run import find
from jgrid.trainer import CHECKPOINT, Trainer

import jittor as jt
import kill_and_resume
import numpy as np
import pytest
from conftest import alike
from test_trainer import BASE, Watched, same, small_field, values

BEFORE = signal.getsignal(signal.SIGINT)  # a shell lets what it starts in the background ignore it
FLAGS = dataclasses.replace(BASE, ema=0.75, clip=1e-3)
RUN = {"train": {"steps": 12, "save_every": 60.0}, "out": "a", "field": {"kind": "grid:dense"}}


def trainer(out, factor=None, config=FLAGS):
    jt.set_global_seed(config.seed)
    task = Watched(config.seed, factor)
    return Trainer(
        task, small_field().build(Domain(2, 2, task.aspect)), config, out, progress=False, run=RUN
    )


def lines(out):
    """metrics.jsonl without its seconds."""
    return [
        {k: v for k, v in json.loads(line).items() if k != "seconds"}
        for line in (out / "metrics.jsonl").read_text().splitlines()
    ]


def alike_lines(a, b):
    """Whether two runs have the same lines."""
    first, second = ([list(line.values()) for line in lines(folder)] for folder in (a, b))
    return lines(a)[0].keys() == lines(b)[0].keys() and alike(first, second)


@pytest.fixture
def whole(tmp_path):
    """(folder, trainer) of a run that nobody interrupted."""
    (tmp_path / "whole").mkdir()
    run = trainer(tmp_path / "whole")
    run.fit()
    return tmp_path / "whole", run


def interrupted_at(step, number):
    return lambda n: signal.raise_signal(number) or 1.0 if n == step - 1 else 1.0


# within an epoch of evaluations, where an evaluation is due, and after the last step
@pytest.mark.parametrize(
    "step, number",
    [(1, signal.SIGTERM), (6, signal.SIGINT), (8, signal.SIGTERM), (12, signal.SIGINT)],
)
def test_a_signal_ends_a_whole_step_from_which_the_run_goes_on_to_the_bit(
    whole, tmp_path, step, number
):
    out = tmp_path / "parts"
    out.mkdir()
    with pytest.raises(
        Interrupted, match=f"{signal.Signals(number).name} after step {step}.*with `resume`"
    ) as ended:
        trainer(out, interrupted_at(step, number)).fit()
    assert ended.value.signal == number
    second = trainer(out)
    second.resume(*find(out, RUN, resume=True))
    assert second.step == step
    result = second.fit()
    assert same(values(whole[1].model), values(second.model)) and result["steps"] == 12
    assert alike_lines(whole[0], out) and [line["step"] for line in lines(out)] == [4, 8, 12]
    for name, value in whole[1].state_dict().items():
        assert alike(value.numpy(), second.state_dict()[name].numpy()), name


@pytest.mark.parametrize("step", [4, 12])
def test_a_signal_ends_an_evaluation_from_which_the_run_goes_on(whole, tmp_path, step):
    """At the end of the points at hand, during training and at its end."""
    out = tmp_path / "parts"
    out.mkdir()
    first = trainer(out)
    evaluate = first.task.evaluate
    seen = []

    def evaluation(model):
        def values(x):
            seen.append(len(x))
            signal.raise_signal(signal.SIGTERM)
            return model(x)

        return (
            in_chunks(values, np.zeros((9, 2)), size=2) if first.step == step else evaluate(model)
        )

    first.task.evaluate = evaluation
    with pytest.raises(Interrupted, match=f"SIGTERM after step {step}"):
        first.fit()
    assert seen == [2]
    second = trainer(out)
    second.resume(*find(out, RUN, resume=True))
    assert second.step == step
    second.fit()
    assert same(values(whole[1].model), values(second.model)) and alike_lines(whole[0], out)


def test_training_itself_is_not_ended_by_a_look(tmp_path):
    """A step is whole, also where its loss looks at many points."""
    run = trainer(tmp_path)
    loss = run.task.loss

    def signalled(model, batch):
        signal.raise_signal(signal.SIGINT)
        in_chunks(model, np.zeros((9, 2)), size=2)
        return loss(model, batch)

    run.task.loss = signalled
    with pytest.raises(Interrupted, match="after step 1;"):
        run.fit()


def test_during_training_a_task_is_glanced_at_and_evaluated_at_the_end(tmp_path):
    run = trainer(tmp_path)
    run.task.glance = lambda model: {"psnr": -1.0}
    run.fit()
    assert [line["psnr"] > 0 for line in run.history] == [False, False, True]


def test_handlers_are_those_of_before(whole):
    assert signal.getsignal(signal.SIGINT) is BEFORE


def test_lines_after_the_checkpoint_are_written_again_not_twice(tmp_path):
    """A kill after an evaluation that no checkpoint has seen."""
    with pytest.raises(Interrupted):
        trainer(tmp_path, interrupted_at(6, signal.SIGTERM)).fit()
    early = (tmp_path / CHECKPOINT).read_bytes()
    run = trainer(tmp_path, interrupted_at(5, signal.SIGTERM))  # counts from its own first step
    run.resume(*find(tmp_path, RUN, resume=True))
    with pytest.raises(Interrupted):
        run.fit()
    assert [line["step"] for line in lines(tmp_path)] == [4, 8]
    (tmp_path / CHECKPOINT).write_bytes(early)
    last = trainer(tmp_path)
    last.resume(*find(tmp_path, RUN, resume=True))
    last.fit()
    assert [line["step"] for line in lines(tmp_path)] == [4, 8, 12]


def test_the_clock_saves(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Trainer, "save", lambda self: saved.append(self.step))
    trainer(tmp_path, config=dataclasses.replace(FLAGS, save_every=1e-9)).fit()
    assert saved == list(range(1, 13))
    saved.clear()
    for seconds in (0.0, 1000.0):
        trainer(tmp_path, config=dataclasses.replace(FLAGS, save_every=seconds)).fit()
    assert saved == []


@pytest.fixture
def saved(tmp_path):
    with pytest.raises(Interrupted):
        trainer(tmp_path, interrupted_at(6, signal.SIGTERM)).fit()
    return tmp_path


def spoil(tensors, name, value):
    return {
        **{k: v for k, v in tensors.items() if k != name},
        **({} if value is None else {name: value}),
    }


SPOILED = {
    "missing": ("m.grid.w", None, "lacks m.grid.w"),
    "extra": ("v.more", np.zeros(3, np.float32), "unknown v.more"),
    "extra of the task": ("task.more", np.zeros(3, np.float32), "unknown task.more"),
    "shape": ("model.grid.w", np.zeros((2, 1), np.float32), "model.grid.w is float32 \\(2, 1\\)"),
    "not finite": ("average.grid.w", np.nan, "average.grid.w has values"),
    "type": ("v.grid.w", np.float64, "v.grid.w is float64"),
}


@pytest.mark.parametrize("name, value, message", SPOILED.values(), ids=SPOILED)
def test_an_entry_that_does_not_fit_is_named(saved, name, value, message):
    tensors, progress = find(saved, RUN, resume=True)
    if value is np.float64:
        value = tensors[name].astype(value)
    elif value is np.nan:
        value = np.full_like(tensors[name], value)
    fresh = trainer(saved)
    with pytest.raises(ValueError, match=message):
        fresh.resume(spoil(tensors, name, value), progress)


def test_a_truncated_checkpoint_is_refused(saved):
    path = saved / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="resume.safetensors: damaged"):
        find(saved, RUN, resume=True)


def test_another_config_is_refused_by_its_flags(saved):
    other = {
        "train": {"steps": 13, "save_every": 1.0},
        "out": "b",
        "resume": True,
        "field": {"kind": "grid:hash"},
    }
    with pytest.raises(
        ValueError, match="`field.kind` grid:hash, not grid:dense; `train.steps` 13, not 12$"
    ):
        find(saved, other, resume=True)
    assert find(saved, {**RUN, "out": "b", "resume": True}, resume=True)


def test_a_run_is_not_begun_anew_over_another(saved, capsys):
    with pytest.raises(ValueError, match="`resume` goes on"):
        find(saved, RUN, resume=False)
    (saved / CHECKPOINT).unlink()
    assert find(saved, RUN, resume=False) is None and capsys.readouterr().err == ""
    assert find(saved, RUN, resume=True) is None and "beginning anew" in capsys.readouterr().err
    (saved / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="finished"):
        find(saved, RUN, resume=True)


def test_a_run_that_cannot_go_on_leaves_no_checkpoint(tmp_path):
    config = dataclasses.replace(FLAGS, save_every=1e-9, steps=60)
    with pytest.raises(Exception, match="not finite"):
        trainer(tmp_path, lambda step: float("nan") if step > 5 else 1.0, config).fit()
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_killed_command_ends_as_if_it_had_not_been(tmp_path):
    wanted, seconds = kill_and_resume.reference("fit_image", tmp_path / "whole")
    found, _ = kill_and_resume.kill_and_resume("fit_image", tmp_path / "parts", seconds / 2)
    assert kill_and_resume.same(wanted, found)
    others = {**found[0], "grid.w": found[0]["grid.w"] + np.float32(1e-6)}
    assert not kill_and_resume.same(wanted, (others, found[1]))  # it would be seen
    assert not (tmp_path / "parts" / CHECKPOINT).exists() and checkpoint.read(
        tmp_path / "parts" / "model.safetensors"
    )
