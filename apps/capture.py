"""From photographs or a film to a scene: the poses of its pictures.

    python apps/capture.py --photos photos
    python apps/capture.py --video walk.mp4 --frames 150 --out scenes/walk

Afterwards: python apps/fit_views.py --scene scenes/walk; --help lists all flags.
"""

from pathlib import Path
from typing import Annotated, Optional

from jgrid import cli
from jgrid.checkpoint import atomic_folder
from jgrid.config import ArgumentError, config
from jgrid.scene.footage import copy_photos, sharpest_frames
from jgrid.scene.motion import FEWEST, Motion, film_pairs, find_poses

from annotated_types import Interval
from typing_extensions import Literal

FRAMES = 100


@config
class Config:
    """Find the poses of photographs, or of frames of a film, and leave a scene that fit_views
    reads."""

    photos: Optional[Path] = None
    """A folder of photographs of one scene."""
    video: Optional[Path] = None
    """A film of it instead: of each of its stretches the sharpest frame is taken."""
    frames: Optional[Annotated[int, Interval(ge=FEWEST, le=9999)]] = None
    """Of a film, at most; 100 if not given."""
    out: Optional[Path] = None
    """Where the scene is to be; default scenes/NAME, after the photographs or the film."""
    size: Annotated[int, Interval(ge=64, le=16384)] = 1600
    """The longest side that pictures have, in pixels; larger ones are shrunk."""
    cameras: Optional[Literal["one", "each"]] = None
    """Of photographs: one for those of one size, device and focal length, which is the default; or
    each its own."""

    def check(self):
        if (self.photos is None) == (self.video is None):
            raise ArgumentError("photos", "or `video` is wanted, one of them")
        if self.photos and self.frames:
            raise ArgumentError("frames", "is of a film, and `photos` are none")
        if self.video and self.cameras:
            raise ArgumentError("cameras", "is of photographs; a film has one")

    @property
    def scene(self) -> Path:
        """The folder to write."""
        name = self.photos.resolve().name if self.photos else self.video.stem
        return self.out or Path("scenes") / name


def main(config: Config) -> Motion:
    """Run the app; returns what was found."""
    with cli.user_errors(config):
        cli.start("cpu", seed=0)
        with atomic_folder(config.scene) as scene:
            images = scene / "images"
            images.mkdir()
            if config.photos:
                each = config.cameras == "each"
                cameras = copy_photos(config.photos, images, config.size, each, progress=True)
                pairs = None
            else:
                frames = config.frames or FRAMES
                names = sharpest_frames(config.video, images, config.size, frames, progress=True)
                cameras = [names]
                pairs = film_pairs(names)
            motion = find_poses(scene, cameras, pairs, progress=True)
    print(motion)
    print(f"the scene: {config.scene}; next: python apps/fit_views.py --scene {config.scene}")
    return motion


if __name__ == "__main__":
    cli.run(Config, main)
