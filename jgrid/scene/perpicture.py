"""What training learns of each picture besides the scene: its exposure, and where it was taken."""

from pathlib import Path
from typing import Any

from jgrid import checkpoint
from jgrid.scene.camera import Box
from jgrid.scene.views import Views

import jittor as jt
import numpy as np
from jittor import nn
from scipy.spatial.transform import Rotation


class PerPicture(nn.Module):
    """Of picture n a gain a and an offset b of each channel, and a turn w and a shift v of the
    camera; all begin where they change nothing:

        c' = a_n c + b_n,   o' - m = exp([w_n]x) (o - m) + v_n,   d' = exp([w_n]x) d,

    m the middle of the box: a turn around the camera itself would be seen as nearly the same as a
    shift. What all pictures have in common is the scene's: the means over them are 1, 0, 0 and 0.

    n: pictures; exposure, poses: learning rates of a and b, of w (radians) and v (sides of the
    cube), 0 for none."""

    def __init__(self, n: int, exposure: float, poses: float):
        super().__init__()
        self.exposure = jt.zeros((n, 2, 3))
        self.poses = jt.zeros((n, 2, 3))
        self._rates = {"exposure": exposure, "poses": poses}

    def exposed(self, colour: jt.Var, opacity: jt.Var, view: jt.Var) -> jt.Var:
        """Colours (R, 3), times opacities (R, 1), of the scene -> those in pictures (R,), by
        number."""
        own = _centred(self.exposure)[view]
        return colour * (1.0 + own[:, 0]) + opacity * own[:, 1]

    def moved(self, origin: jt.Var, direction: jt.Var, view: jt.Var) -> tuple[jt.Var, jt.Var]:
        """Rays (R, 3), (R, 3) in the cube of pictures (R,), by number, as their cameras stand
        now."""
        own = _centred(self.poses)[view]
        return _turned(origin - 0.5, own[:, 0]) + 0.5 + own[:, 1], _turned(direction, own[:, 0])

    def refined(self, poses: np.ndarray, box: Box) -> np.ndarray:
        """The pictures' poses (N, 4, 4) in the world, as their cameras stand now."""
        own = _centred(self.poses).numpy().astype(float)
        refined = poses.copy()
        refined[:, :3, 3] -= box.centre
        refined[:, :3] = Rotation.from_rotvec(own[:, 0]).as_matrix() @ refined[:, :3]
        refined[:, :3, 3] += own[:, 1] * box.side + box.centre
        return refined

    def save(self, folder: Path, views: Views, box: Box) -> list[Path]:
        """Write what was learned of the pictures: poses.json, their refined poses as a transforms
        file has them; exposures.json, of each [r, g, b] the gain a and the offset b."""
        paths = []
        if self._rates["poses"]:
            poses = self.refined(views.poses, box)
            frames = [{"transform_matrix": pose.tolist()} for pose in poses]
            paths.append(_write(folder / "poses.json", views, frames))
        if self._rates["exposure"]:
            own = _centred(self.exposure).numpy().astype(float)
            frames = [{"gain": (1 + a).tolist(), "offset": b.tolist()} for a, b in own]
            paths.append(_write(folder / "exposures.json", views, frames))
        return paths

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is learned, for the optimiser."""
        return [
            {"name": name, "params": [getattr(self, name)], "lr": rate}
            for name, rate in self._rates.items()
            if rate
        ]


def _centred(values: jt.Var) -> jt.Var:
    return values - values.mean(0, keepdims=True)


def _write(path: Path, views: Views, frames: list[dict[str, Any]]) -> Path:
    """Write what frames say of the pictures, each by its name."""
    named = [{"file_path": views.name(n), **frame} for n, frame in enumerate(frames)]
    checkpoint.write_json(path, {"frames": named})
    return path


def _turned(direction: jt.Var, turn: jt.Var) -> jt.Var:
    """Directions (R, 3) turned around axes (R, 3) by angles of their lengths (Rodrigues)."""
    angle = jt.sqrt((turn * turn).sum(1, keepdims=True) + 1e-16)  # has a gradient at 0
    half = jt.sin(0.5 * angle) / angle
    across = jt.cross(turn, direction, dim=1)
    return direction + jt.sin(angle) / angle * across + 2 * half**2 * jt.cross(turn, across, dim=1)
