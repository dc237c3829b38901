"""How good a radiance field is: the test pictures rendered, measured, shown beside the truth."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

from jgrid import picture
from jgrid.image.metrics import psnr, ssim, ssim_gaussian
from jgrid.scene.radiance import RadianceField
from jgrid.scene.viewer import BACKGROUNDS, Viewer, depth_picture
from jgrid.scene.views import Views

import numpy as np
from tqdm import tqdm

SECONDS = 2.0  # before a bar is shown
GLANCE = 2**20  # pixels of the test pictures that are looked at during training
KEPT_BYTES = 2**29  # of renderings, between an evaluation and the files


class Evaluation:
    """The test pictures as a viewer renders them; renderings are kept until the model changes.
    progress: whether bars show how far they are."""

    def __init__(self, test: Views, viewer: Viewer, progress: bool):
        self.test = test
        self.viewer = viewer
        self.progress = progress
        self.background = BACKGROUNDS[viewer.background]
        self._rendered: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._rendered_of = b""

    @property
    def glanced(self) -> list[int]:
        """Test pictures, evenly spread, that together have GLANCE pixels; at least one."""
        views = len(self.test.poses)
        n = min(max(1, GLANCE * views // self.test.n_pixels), views)
        return [(2 * k + 1) * views // (2 * n) for k in range(n)]

    def measure(self, model: RadianceField, chosen: Sequence[int]) -> dict[str, float]:
        """Means over the chosen test pictures, of the pixels that count."""
        found: dict[str, list[float]] = {}
        for n in self._bar(chosen, "evaluating"):
            truth = self.test.on(n, self.background)
            colour = self._render(model, n)[0]
            counted = self._counted(n)
            for metric in (psnr, ssim, ssim_gaussian):
                found.setdefault(metric.__name__, []).append(metric(truth, colour, counted))
        return {name: float(np.mean(values)) for name, values in found.items()}

    def _bar(self, views: Sequence[int], what: str) -> Iterable[int]:
        """The views, with a bar where they take more than a moment."""
        return tqdm(views, what, disable=not self.progress, unit="view", leave=False, delay=SECONDS)

    def _counted(self, n: int) -> Optional[np.ndarray]:
        """The pixels of test picture n that count; None: all."""
        return None if self.test.counted is None else self.test.counted[n]

    def _render(self, model: RadianceField, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Colours and depth from the camera of test picture n; kept until the model changes."""
        of = hashlib.sha256(self.viewer.occupancy.occupied.tobytes())
        for value in model.state_dict().values():
            of.update(value.numpy().tobytes())
        if of.digest() != self._rendered_of:
            self._rendered_of = of.digest()
            self._rendered = {}
        if n in self._rendered:
            return self._rendered[n]
        colour, depth, _ = self.viewer.picture(model, self.test.poses[n], self.test.cameras[n])
        if (len(self._rendered) + 1) * (colour.nbytes + depth.nbytes) <= KEPT_BYTES:
            self._rendered[n] = (colour, depth)
        return colour, depth

    def save(self, model: RadianceField, out_dir: Path) -> list[Path]:
        """Write every test picture, and each beside its truth, its error and its depth."""
        for folder in ("test", "comparison"):
            (out_dir / folder).mkdir(exist_ok=True)
        paths = []
        for n in self._bar(range(len(self.test.poses)), "rendering"):
            truth = self.test.on(n, self.background)
            colour, depth = self._render(model, n)
            counted = self._counted(n)
            error = np.abs(colour - truth).max(axis=2)
            error = error if counted is None else np.where(counted, error, 0.0)
            panels = [
                ("truth", truth),
                (f"{psnr(truth, colour, counted):.2f} dB", colour),
                ("error", picture.heat_map(error, 0.2)),
                ("depth", depth_picture(depth)),
            ]
            name = f"{n:03d}.png"
            paths.append(picture.save(out_dir / "test" / name, colour))
            paths.append(picture.save_panels(out_dir / "comparison" / name, panels))
        return paths
