"""What the tables' fields are run on: what packages ship and the app makes, or a folder of data
sets."""

import functools
import hashlib
from dataclasses import replace

from jgrid.image.files import load_image
from jgrid.scene.camera import Box
from jgrid.scene.files import load_views
from jgrid.scene.made import knot, make_scene
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.surface.mesh import gyroid_ball, load_mesh
from jgrid.surface.task import SDFConfig, SDFTask
from jgrid.theory import figures

import numpy as np
import skimage.data

PICTURES = ("astronaut", "coffee")


def found_in(config, sizes, folder, pattern):
    """The subjects' paths in a folder of --data; ValueError where there are none."""
    paths = sorted(
        path for path in (config.data / folder).glob(pattern) if not path.name.startswith(".")
    )[: sizes.subjects]
    if not paths:
        raise ValueError(
            f"--data {config.data}: no {folder}/{pattern}; data/README.md says what it must hold"
        )
    return paths


def crop(pixels, side):
    """The square in the middle, at native resolution; side None: all."""
    if side is None:
        return pixels
    top, left = ((n - min(n, side)) // 2 for n in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def digest(array):
    """A text that tells arrays apart."""
    return hashlib.sha256(
        repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()
    ).hexdigest()[:16]


def find_pictures(config, sizes):
    paths = config.pictures or (found_in(config, sizes, "kodak", "*.png") if config.data else ())
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        raise ValueError(
            f"--pictures: two are called {next(stem for stem in stems if stems.count(stem) > 1)}"
        )
    pictures = {path.stem: load_image(path) for path in paths} or {
        name: getattr(skimage.data, name)() / 255 for name in PICTURES
    }
    return {name: crop(pixels, sizes.side) for name, pixels in pictures.items()}


def find_meshes(config, sizes):
    meshes = (
        {path.stem: load_mesh(path) for path in found_in(config, sizes, "meshes", "*.*")}
        if config.data
        else {"gyroid": gyroid_ball()}
    )
    pool = SDFConfig(pool=2**17 if config.preset == "cpu" else 2**20)
    return {
        name: functools.cache(lambda seed, mesh=mesh: SDFTask(mesh, pool, seed))
        for name, mesh in meshes.items()
    }


def find_scenes(config, sizes):
    """Scenes are loaded, or made, when they are first wanted."""
    small = config.preset == "cpu"
    folders = (
        [path.parent for path in found_in(config, sizes, "scenes", "*/transforms_train.json")]
        if config.data
        else [None]
    )

    views = ViewsConfig(cells=48, samples=128) if small else ViewsConfig(cells=128, samples=1024)

    @functools.cache
    def load(folder):
        if folder is None:
            folder = config.folder("views") / "scene"
            if not (folder / "transforms_test.json").is_file():  # the last that make_scene writes
                make_scene(folder, knot(), *((sizes.side, 30, 4) if small else (400, 100, 25)))
        train = load_views(folder, "train")
        test = load_views(folder, "test")
        every = max(1, len(test.poses) // 4) if small else 1
        return train, replace(test, pixels=test.pixels[::every], poses=test.poses[::every])

    def make_task(seed, folder):
        return ViewsTask(*load(folder), Box(1.5), views, seed)

    return {
        folder.name if folder else "knot": functools.partial(make_task, folder=folder)
        for folder in folders
    }


def find_fourier_pictures(config, sizes):
    text = {"text": crop(figures.text_picture(6 * sizes.side), sizes.side)}
    return {**text, **dict(list(find_pictures(config, sizes).items())[:1])}


# {table: (config, preset) -> {name: subject}}: pixels, or make_task(seed) for sdf and views
SUBJECTS = {
    "image": find_pictures,
    "sdf": find_meshes,
    "views": find_scenes,
    "theory": find_pictures,
    "fourier": find_fourier_pictures,
}
