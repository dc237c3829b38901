"""Structure from motion: the cameras and poses of pictures, found from the pictures by COLMAP."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import combinations, groupby
from pathlib import Path
from typing import NamedTuple, Optional

from jgrid.scene.locate import listed

from tqdm import tqdm

PROGRAM = Path(__file__).with_name("mapping.py")
FEWEST = 3  # pictures that poses are found from
NEAR = 10  # frames of a film are matched with as many after them
STRIDE = 5  # and one in so many with all others of these, as the camera may come back
NAMED = 3  # cameras in a message, at most
ADVICE = (
    "it takes sharp pictures, with texture, of one scene that stands still, from different places,"
    " each showing much of what others show"
)

Pairs = list[tuple[str, str]]


class Motion(NamedTuple):
    """What was found: the names of pictures with and without a pose; error: the mean reprojection
    error, in pixels; points: their number; cameras: each, in words."""

    posed: list[str]
    unposed: list[str]
    error: float
    points: int
    cameras: list[str]

    def __str__(self) -> str:
        n = len(self.posed) + len(self.unposed)
        without = f", but not {listed(self.unposed)}" if self.unposed else ""
        more = len(self.cameras) - NAMED
        return (
            f"{len(self.posed)} of {n} pictures have a pose{without}\n"
            f"mean reprojection error {self.error:.2f} px, {self.points:,} points\n"
            + "\n".join(self.cameras[:NAMED])
            + (f"\nand {more} more cameras" if more > 0 else "")
        )


def film_pairs(names: Sequence[str]) -> Pairs:
    """Each frame with the NEAR next ones, and every STRIDE-th with all of these."""
    near = [(a, b) for n, a in enumerate(names) for b in names[n + 1 : n + 1 + NEAR]]
    return list(dict.fromkeys([*near, *combinations(names[::STRIDE], 2)]))


def find_poses(
    scene: Path,
    cameras: Sequence[Sequence[str]],
    pairs: Optional[Pairs] = None,
    progress: bool = False,
) -> Motion:
    """Find the poses of the pictures in scene/images and write them to scene/sparse/0, a COLMAP
    model: features (SIFT), matches, incremental mapping; of several models the one with most
    pictures. The seed is fixed.

    cameras: of each the names of its pictures, taken with one focal length and one distortion
    (SIMPLE_RADIAL); pairs: of names, without spaces, that are matched; without them each with each
    other; progress: bars on stderr.

    ValueError where fewer than a third of the pictures find a pose, or pycolmap is missing."""
    n = sum(map(len, cameras))
    if n < FEWEST:
        raise ValueError(f"poses are found from {FEWEST} pictures or more, and here are {n}")
    if importlib.util.find_spec("pycolmap") is None:
        raise ValueError(
            "poses are found by pycolmap, which is not installed: pip install 'jgrid[capture]'"
        )
    job = {"images": str(scene / "images"), "cameras": cameras, "pairs": pairs}
    with tempfile.TemporaryDirectory(prefix=".motion-", dir=scene) as folder:
        work = Path(folder)
        (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run(work, progress)
        found = work / "found.json"
        motion = Motion(**json.loads(found.read_text(encoding="utf-8"))) if found.exists() else None
        if motion is None or 3 * len(motion.posed) < n:
            few = len(motion.posed) if motion else "none"
            raise ValueError(f"{few} of {n} pictures found a pose: {ADVICE}")
        (scene / "sparse").mkdir()
        (work / "model").rename(scene / "sparse" / "0")
    return motion


def _run(folder: Path, progress: bool) -> None:
    """Run the program on a folder; it ends with this block, also with a signal."""
    with open(folder / "stderr.txt", "w+", encoding="utf-8", errors="replace") as said:
        with subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,  # a Ctrl-C is for this process alone
        ) as child:
            try:
                assert child.stdout is not None
                _show(child.stdout, progress)
            except BaseException:
                child.kill()
                child.wait()  # it writes to a folder that goes next
                raise
        if child.returncode:
            said.seek(0)
            lines = said.read().strip().splitlines() or [f"it ended with {child.returncode}"]
            raise ValueError(f"COLMAP found no poses: {lines[-1]:.300}")


def _show(lines: Iterable[str], progress: bool) -> None:
    """A bar for each step that lines tell of."""
    for step, told in groupby(map(str.split, lines), lambda words: words[0]):
        with tqdm(desc=step, disable=not progress, leave=False, delay=2) as bar:
            for _, done, total in told:
                bar.total = int(total)
                bar.update(int(done) - bar.n)
