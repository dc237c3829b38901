"""What the tables' fields are run on: what packages ship and the app makes, or a folder of data
sets."""

import functools
import hashlib
from pathlib import Path
from typing import Any, Optional

from jgrid.comparison import MakeTask
from jgrid.image.files import load_image
from jgrid.scene.camera import Box
from jgrid.scene.files import Views, load_views
from jgrid.scene.made import knot, make_scene
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.surface.mesh import gyroid_ball, load_mesh
from jgrid.surface.task import SDFConfig, SDFTask
from jgrid.theory import figures

import numpy as np
import skimage.data
from table_presets import Preset

PICTURES = ("astronaut", "coffee")


def found_in(config: Any, sizes: Preset, folder: str, pattern: str) -> list[Path]:
    """The subjects' paths in a folder of `data`; ValueError where there are none."""
    found = sorted((config.data / folder).glob(pattern))
    paths = [path for path in found if not path.name.startswith(".")][: sizes.subjects]
    if not paths:
        raise ValueError(
            f"`data` {config.data}: no {folder}/{pattern}; data/README.md says what it must hold"
        )
    return paths


def crop(pixels: np.ndarray, side: Optional[int]) -> np.ndarray:
    """The square in the middle, at native resolution; side None: all."""
    if side is None:
        return pixels
    top, left = ((n - min(n, side)) // 2 for n in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def digest(array: np.ndarray) -> str:
    """A text that tells arrays apart."""
    content = repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def find_pictures(config: Any, sizes: Preset) -> dict[str, np.ndarray]:
    """Those of the command, of a folder of data sets, or scikit-image's."""
    paths = config.pictures or (found_in(config, sizes, "kodak", "*.png") if config.data else ())
    stems = [path.stem for path in paths]
    for stem in stems:
        if stems.count(stem) > 1:
            raise ValueError(f"`pictures`: two are called {stem}")
    if paths:
        pictures = {path.stem: load_image(path) for path in paths}
    else:
        pictures = {name: getattr(skimage.data, name)() / 255 for name in PICTURES}
    return {name: crop(pixels, sizes.side) for name, pixels in pictures.items()}


def find_meshes(config: Any, sizes: Preset) -> dict[str, MakeTask]:
    """Those of a folder of data sets, or the gyroid ball."""
    if config.data:
        paths = found_in(config, sizes, "meshes", "*.*")
        meshes = {path.stem: load_mesh(path) for path in paths}
    else:
        meshes = {"gyroid": gyroid_ball()}
    pool = SDFConfig(pool=2**17 if config.preset == "cpu" else 2**20)
    return {
        name: functools.cache(lambda seed, mesh=mesh: SDFTask(mesh, pool, seed))
        for name, mesh in meshes.items()
    }


def find_scenes(config: Any, sizes: Preset) -> dict[str, MakeTask]:
    """Those of a folder of data sets, or the knot; loaded, or made, when they are first needed."""
    small = config.preset == "cpu"
    folders: list[Optional[Path]] = [None]
    if config.data:
        paths = found_in(config, sizes, "scenes", "*/transforms_train.json")
        folders = [path.parent for path in paths]

    views = ViewsConfig(cells=48, samples=128) if small else ViewsConfig(cells=128, samples=1024)

    @functools.cache
    def load(folder: Optional[Path]) -> tuple[Views, Views]:
        if folder is None:
            folder = config.folder("views") / "scene"
            if not (folder / "transforms_test.json").is_file():  # the last that make_scene writes
                make_scene(folder, knot(), *((sizes.side, 30, 4) if small else (400, 100, 25)))
        train = load_views(folder, "train")
        test = load_views(folder, "test")
        every = max(1, len(test.poses) // 4) if small else 1
        return train, test.chosen(np.arange(0, len(test.poses), every))

    def make_task(seed: int, folder: Optional[Path]) -> ViewsTask:
        return ViewsTask(*load(folder), Box(1.5), views, seed)

    return {
        folder.name if folder else "knot": functools.partial(make_task, folder=folder)
        for folder in folders
    }


def find_fourier_pictures(config: Any, sizes: Preset) -> dict[str, np.ndarray]:
    """Letters, and the first picture."""
    text = crop(figures.text_picture(6 * sizes.side), sizes.side)
    name, pixels = next(iter(find_pictures(config, sizes).items()))
    return {"text": text, name: pixels}


# {table: (config, preset) -> {name: subject}}: pixels, or make_task(seed) for sdf and views
SUBJECTS = {
    "image": find_pictures,
    "sdf": find_meshes,
    "views": find_scenes,
    "theory": find_pictures,
    "fourier": find_fourier_pictures,
}
