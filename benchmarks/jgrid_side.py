"""jgrid's side: training steps through the trainer, the fused ops alone, fits to a PSNR."""

import resource
import time
from dataclasses import replace

from benchmarks import problem
from jgrid import ImageTask, TrainConfig, Trainer
from jgrid.field import DecoderConfig, DenseGridConfig, Domain, field_from_dict
from jgrid.field.presets import SURFACE
from jgrid.image.metrics import psnr
from jgrid.image.task import render
from jgrid.ops.gather import CollapsedGather
from jgrid.ops.mlp import fused_mlp
from jgrid.ops.render import composite, pack
from jgrid.scene.radiance import RadianceConfig
from jgrid.surface.isosurface import extract
from jgrid.surface.mesh import gyroid_ball
from jgrid.surface.task import SDFConfig, SDFTask, values_of

import jittor as jt
import numpy as np
import skimage.data

FOREVER = 10**6  # steps of a run that is only timed


class FixedBatch:
    """A task of random points and smooth colours, the same at every step: any number of dimensions,
    no sampling to pay for."""

    n_out = 3
    learned = None

    def __init__(self, dim, batch):
        self.dim = dim
        x = np.random.default_rng(0).uniform(size=(batch, dim)).astype(np.float32)
        colour = 0.5 + 0.5 * np.sin(20 * x.sum(1, keepdims=True) + np.arange(3)).astype(np.float32)
        self.batch = {"x": jt.array(x).stop_grad(), "colour": jt.array(colour).stop_grad()}

    def sample(self, step, n):
        return self.batch

    def loss(self, model, batch):
        return {"mse": ((model(batch["x"]) - batch["colour"]) ** 2).mean()}


def astronaut():
    return ImageTask(skimage.data.astronaut() / 255.0)


def step(field, batch, plain=False):
    """One training step on random pixels, fused as configured, or in Jittor's own ops and
    optimiser."""
    task = astronaut()
    model = field_from_dict(field).build(Domain(2, 3))
    if plain:
        model.use_plain_ops()
    groups = model.parameter_groups()
    for p, value in zip(
        [p for group in groups for p in group["params"]], problem.parameters(field)
    ):
        p.update(jt.array(value))
    trainer = Trainer(task, model, TrainConfig(batch=batch, steps=FOREVER), progress=False)
    if plain:
        trainer.optimizer.fused = False
    x, colour = map(jt.array, problem.check_batch())
    losses = []
    for _ in range(problem.CHECK_STEPS):
        loss = sum(task.loss(model, {"x": x, "colour": colour}).values())
        trainer.optimizer.step(loss)
        losses.append(loss.item())
    return {"step": trainer.advance}, {"losses": losses}


def repeat(outputs):
    """A run of `outputs`, which lists variables, and of nothing else that is pending."""

    def run(steps):
        for _ in range(steps):
            jt.sync(outputs(), True)

    return run


def ops(field, batch):
    """The parts of a training step, each alone, and the whole; info: what each must do, in the
    units of the limits."""
    task = astronaut()
    model = field_from_dict(field).build(Domain(2, 3))
    grid = model.grid
    network = [p for layer in model.network.layers for p in (layer.weight, layer.bias)]
    trainer = Trainer(task, model, TrainConfig(batch=batch, steps=FOREVER), progress=False)
    gather = CollapsedGather(grid.index, "linear", 0, grid.groups)
    x = task.sample(0, batch)["x"]
    table = jt.array(grid.w.numpy()).unsqueeze(1)
    levels = gather(x, table)
    z = jt.array(levels.numpy().reshape(batch, -1))
    g_levels = jt.random(levels.shape).stop_grad()
    g_out = jt.random((batch, 3)).stop_grad()
    gradients = [jt.random(p.shape).stop_grad() for p in trainer.parameters]
    one = jt.ones(1)
    jt.sync_all(True)

    count = 0

    def sampling():
        nonlocal count
        count += 1
        return list(task.sample(count, batch).values())

    def adam():
        trainer.optimizer.apply(gradients, one)
        return trainer.parameters

    def loss_and_gradient():
        out = g_out.clone().start_grad()
        loss = ((out - colour) ** 2).mean()
        return [loss, jt.grad(loss, out)]

    colour = task.sample(0, batch)["colour"]
    runs = {
        "sampling": repeat(sampling),
        "gather": repeat(lambda: [gather(x, table)]),
        "mlp": repeat(lambda: [fused_mlp(z, *network)]),
        "loss": repeat(loss_and_gradient),
        "mlp_backward": repeat(
            lambda: jt.grad((fused_mlp(z, *network) * g_out).sum(), [z, *network])
        ),
        "gather_backward": repeat(lambda: [gather.backward(x, g_levels, table)[0]]),
        "adam": repeat(adam),
        "step": trainer.advance,
    }
    parameters = sum(p.numel() for p in trainer.parameters)
    work = work_of(batch, grid.index.n_levels, network[::2], parameters)
    return runs, {"work": work, "table_mib": grid.w.numel() * 4 / 2**20}


def work_of(batch, levels, weights, parameters):
    """What the parts of a step of a 2-D grid and its network must do: rows of the table,
    floating-point operations, bytes."""
    rows = batch * levels * 4
    flop = 2 * batch * sum(w.shape[0] * w.shape[1] for w in weights)
    return {
        "gather": rows,
        "gather_backward": rows,
        "mlp": flop,
        "mlp_backward": 2 * flop,
        "adam": 7 * 4 * parameters,
    }


def scaling(base, batch, changes):
    """Steps of the hash grid on a fixed batch, a run for each of `changes`: {name: {"dim", "batch"
    or a flag of the field: value}}."""
    runs = {}
    for name, change in changes.items():
        change = dict(change)
        dim = change.pop("dim", 2)
        n = change.pop("batch", batch)
        model = field_from_dict({**base, **change}).build(Domain(dim, 3))
        runs[name] = Trainer(
            FixedBatch(dim, n), model, TrainConfig(batch=n, steps=FOREVER), progress=False
        ).advance
    return runs, {}


def fit(field, targets, every, steps):
    """Training from the start until the last PSNR of `targets`, with the app's schedule: {target:
    [seconds, steps]}.

    Seconds of training without evaluations, compiled before; looked at after every `every` steps.
    """
    task = astronaut()

    def run(_):
        jt.set_global_seed(0)
        trainer = Trainer(
            task,
            field_from_dict(field).build(Domain(2, 3, task.aspect, task.place)),
            TrainConfig(),
            progress=False,
        )
        seconds = 0.0
        done = 0
        reached = {}
        while done < steps and len(reached) < len(targets):
            start = time.perf_counter()
            trainer.advance(every)
            seconds = seconds + time.perf_counter() - start
            done = done + every
            value = psnr(task.pixels, render(trainer.model, task.height, task.width))
            reached.update({t: [seconds, done] for t in targets if t not in reached and value >= t})
        return reached

    Trainer(
        task, field_from_dict(field).build(Domain(2, 3)), TrainConfig(), progress=False
    ).advance(3)
    return {"fit": run}, {}


def extraction(change, resolution, steps, sparse):
    """Marching cubes of fit_sdf's default field, with entries changed, fitted in `steps` to the
    ball with a gyroid; a run's value: faces and the process's peak memory."""
    jt.set_global_seed(0)
    task = SDFTask(gyroid_ball(), SDFConfig(pool=2**17))
    trainer = Trainer(
        task,
        replace(SURFACE["grid:mulfa"], **change).build(task),
        TrainConfig(steps=steps, batch=2**14),
        progress=False,
    )
    trainer.advance(steps)
    function = values_of(trainer.model)

    def run(_):
        faces = len(extract(function, resolution, sparse)[1])
        return {
            "faces": faces,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }

    return {"extract": run}, {}


class FixedRays:
    """A task of rays with samples that stay: what a step of a radiance field costs without marching
    and occupancy."""

    learned = None

    def __init__(self, size):
        self.x, self.direction, self.delta, self.colour = [
            jt.array(v).stop_grad() for v in problem.views_batch(**size)
        ]
        self.first = pack(np.full(size["rays"], size["samples"]))
        self.ray = jt.array(
            np.repeat(np.arange(size["rays"], dtype=np.int32), size["samples"])
        ).stop_grad()

    def sample(self, step, n):
        return {}

    def loss(self, model, batch):
        density, colour = model(self.x, self.direction, self.ray)
        return {
            "mse": (
                (
                    (composite(density, colour, self.delta, self.first)[:, :3] - self.colour) ** 2
                ).mean()
            )
        }


def views(size):
    """One training step of a radiance field of a dense grid and a colour network on fixed rays."""
    task = FixedRays(size)
    grid = DenseGridConfig(
        finest=size["nodes"] - 1, levels=1, decoder=DecoderConfig(depth=0), lr_features=1e-2
    )
    model = RadianceConfig(features=size["features"], width=size["width"], depth=2, lr=1e-3).build(
        grid
    )
    for p, value in zip(
        [p for group in model.parameter_groups() for p in group["params"]],
        problem.views_parameters(**size),
    ):
        p.update(jt.array(value))
    trainer = Trainer(task, model, TrainConfig(steps=FOREVER, warmup=0), progress=False)
    return {"step": trainer.advance}, {
        "losses": [trainer._step(0).item() for _ in range(problem.CHECK_STEPS)]
    }
