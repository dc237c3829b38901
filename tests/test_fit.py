"""jgrid.fit: the same as by hand, with all that a task knows: an image, a surface, a scene."""

import jgrid
from jgrid.config import ArgumentError
from jgrid.field import DecoderConfig
from jgrid.surface.mesh import gyroid_ball

import jittor as jt
import numpy as np
import pytest
import trimesh

DECODER = DecoderConfig(width=8, depth=1)
HASH = jgrid.HashGridConfig(finest=16, coarsest=4, levels=2, table_size=256, decoder=DECODER)
RADIAL = jgrid.RadialGridConfig(nodes=30, channels=2, decoder=DECODER)
TRAIN = {"steps": 4, "batch": 256, "eval_every": 2, "seed": 3}


def image():
    return jgrid.ImageTask(np.random.default_rng(0).uniform(size=(12, 20, 3)))


def surface():
    return jgrid.SDFTask(gyroid_ball(), jgrid.SDFConfig(pool=512))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = jgrid.make_scene(
        tmp_path_factory.mktemp("ball"),
        trimesh.creation.icosphere(subdivisions=2),
        size=16,
        train=3,
        test=1,
    )
    views = [jgrid.load_views(folder, split) for split in ("train", "test")]
    colour = jgrid.RadianceConfig(features=5, width=8)
    config = jgrid.ViewsConfig(cells=8, samples=16, colour=colour)
    return lambda: jgrid.ViewsTask(*views, jgrid.Box(1.5), config)


def same_as_by_hand(make_task, config):
    """The Fit, after it was compared with what an app does."""
    found = jgrid.fit(make_task(), config, **TRAIN)
    train = jgrid.TrainConfig(**TRAIN)
    jt.set_global_seed(train.seed)
    task = make_task()
    model = task.build(config)
    trainer = jgrid.Trainer(task, model, train, progress=False)
    result = trainer.fit()
    weights = found.model.state_dict()
    assert weights.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(weights[name].numpy(), value.numpy(), err_msg=name)
    assert [line["step"] for line in found.history] == [2, 4]
    assert found.history[-1][task.metric] == found.result[task.metric] == result[task.metric]
    return found


@pytest.mark.parametrize("config", [HASH, RADIAL], ids=["hash", "radial"])
def test_an_image(config):
    fit = same_as_by_hand(image, config)
    if config is RADIAL:
        np.testing.assert_array_equal(fit.model.grid.index.nodes, image().place(30))
    else:  # cells come out square
        wide, high = fit.model.grid.index.cells[-1]
        assert abs(wide / high - 20 / 12) < 0.1


def test_a_surface():
    fit = same_as_by_hand(surface, RADIAL)
    np.testing.assert_array_equal(fit.model.grid.index.nodes, surface().place(30))


def test_a_scene(scene):
    fit = same_as_by_hand(scene, HASH)
    assert isinstance(fit.model, jgrid.RadianceField)
    assert fit.model.field(jt.zeros((2, 3))).shape == (2, 6)  # a density and the colour's features


def test_a_wrong_entry_is_refused():
    with pytest.raises(ValueError, match="`batch` must be at least 1"):
        jgrid.fit(image(), HASH, batch=0)


def test_an_unknown_entry_is_named():
    with pytest.raises(ArgumentError, match="`step` is no entry of TrainConfig; there are steps"):
        jgrid.fit(image(), HASH, step=5)
