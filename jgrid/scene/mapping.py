"""COLMAP's steps from pictures to their poses, as a program without Jittor, whose libraries and
COLMAP's end each other's process with "free(): invalid pointer".

    python jgrid/scene/mapping.py FOLDER

FOLDER/job.json says images, a folder; cameras, of each the names of its pictures; pairs of names,
or null. It leaves FOLDER/model, COLMAP's model, and FOLDER/found.json, what `motion.Motion` has;
neither where no pictures hang together. On stdout are lines: a step, how far it is, and of how
many."""

import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Optional

LOOK = 0.2  # seconds between two looks at how far a step is
SMALLEST_MODEL = 10  # pictures of a model that COLMAP does not drop, where there are many
BLOCK = 10  # pictures, each with each of as many others, whose matches are written at once
QUIET = 3  # glog's level of what ends the process


class Mapping:
    """The steps on one folder of pictures, in a folder of their own."""

    def __init__(self, colmap: Any, folder: Path, images: str):
        self.colmap = colmap
        self.folder = folder
        self.images = images
        self.database = str(folder / "database.db")
        self.posed = 0
        colmap.logging.minloglevel = QUIET
        colmap.set_random_seed(0)
        colmap.Database.open(self.database).close()

    def read(self, cameras: Sequence[Sequence[str]]) -> None:
        """Pictures with their cameras, and their features."""
        single = self.colmap.CameraMode.SINGLE
        for names in cameras:
            self.colmap.import_images(self.database, self.images, single, names)
        with self._told("features", sum(map(len, cameras)), self._rows("keypoints")):
            self.colmap.extract_features(self.database, self.images)

    def match(self, n: int, pairs: Optional[Sequence[Sequence[str]]]) -> None:
        """Which features of pairs, or of any two of n pictures, belong together."""
        geometry = self.colmap.TwoViewGeometryOptions()
        geometry.ransac.random_seed = 0
        total = n * (n - 1) // 2 if pairs is None else len(pairs)
        with self._told("pairs", total, self._rows("two_view_geometries")):
            if pairs is None:
                every = self.colmap.ExhaustivePairingOptions()
                every.block_size = BLOCK
                self.colmap.match_exhaustive(
                    self.database, pairing_options=every, verification_options=geometry
                )
                return
            listing = self.folder / "pairs.txt"
            listing.write_text("".join(f"{a} {b}\n" for a, b in pairs), encoding="utf-8")
            chosen = self.colmap.ImportedPairingOptions()
            chosen.match_list_path = str(listing)
            chosen.block_size = BLOCK**2
            self.colmap.match_image_pairs(
                self.database, pairing_options=chosen, verification_options=geometry
            )

    def map(self, n: int) -> Any:
        """Poses and points: of the models, each of pictures that hang together, that with most of
        them, or None."""

        def add() -> None:
            self.posed = min(n, self.posed + 1)

        options = self.colmap.IncrementalPipelineOptions()
        options.random_seed = 0
        options.min_model_size = min(SMALLEST_MODEL, n // 3 + 1)
        with self._told("poses", n, lambda: self.posed):
            models = self.colmap.incremental_mapping(
                self.database, self.images, str(self.folder), options, next_image_callback=add
            )
        return max(models.values(), key=lambda model: model.num_reg_images(), default=None)

    def _rows(self, table: str) -> Callable[[], int]:
        """A function that says how many rows a table of the database has by now."""

        def count() -> int:
            with closing(sqlite3.connect(self.database)) as database:
                return database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]

        return count

    @contextmanager
    def _told(self, step: str, total: int, count: Callable[[], int]) -> Iterator[None]:
        """Inside the block a thread says how far it is."""
        ended = threading.Event()

        def tell() -> None:
            while not ended.wait(LOOK):
                try:
                    print(step, count(), total, flush=True)
                except sqlite3.Error:  # COLMAP writes
                    continue
                except BrokenPipeError:  # who asked is gone
                    os._exit(1)

        thread = threading.Thread(target=tell)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def main(folder: Path) -> None:
    """Do the job of a folder."""
    import pycolmap

    if int(pycolmap.__version__.split(".")[0]) < 4:
        raise SystemExit(f"pycolmap {pycolmap.__version__} is too old, 4 is wanted")
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    names = [name for group in job["cameras"] for name in group]
    mapping = Mapping(pycolmap, folder, job["images"])
    mapping.read(job["cameras"])
    mapping.match(len(names), job["pairs"])
    model = mapping.map(len(names))
    if model is None:
        return
    (folder / "model").mkdir()
    model.write(str(folder / "model"))
    posed = {image.name for image in model.images.values() if image.has_pose}
    found = {
        "posed": sorted(posed),
        "unposed": sorted(set(names) - posed),
        "error": model.compute_mean_reprojection_error(),
        "points": model.num_points3D(),
        "cameras": [_words(model.cameras[number]) for number in sorted(model.cameras)],
    }
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


def _words(camera: Any) -> str:
    """What was found of a camera."""
    numbers = zip(camera.params_info.split(", "), camera.params)
    said = ", ".join(f"{name} {value:.4g}" for name, value in numbers)
    return f"{camera.model.name} of {camera.width} x {camera.height}: {said}"


if __name__ == "__main__":
    del sys.path[0]  # this file's folder, whose names are not those of packages
    main(Path(sys.argv[1]))
