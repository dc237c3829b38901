"""A scene on a page: its colour, depth or opacity, cropped where wanted, and a camera's path."""

import threading
import time
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Optional

from jgrid.browser.canvas import Canvas, camera_of
from jgrid.browser.page import Look, Page, look_of, move, turn_of
from jgrid.browser.path import Keyframe, between, load_path, save_path
from jgrid.scene.camera import Camera, circle_poses
from jgrid.scene.crop import Cropped
from jgrid.scene.radiance import RadianceField
from jgrid.scene.render import Radiance
from jgrid.scene.viewer import FRAME_PIXELS, Viewer, depth_picture, save_gif

import numpy as np

MODES = ("colour", "depth", "opacity")
SIZES = {f"{2**n} x {2**n}": 4**n for n in range(7, 12)}  # pixels of the finest picture
ORANGE = (255, 140, 0)  # of what is laid over the scene
CAMERAS = "cameras.json"
FPS = 12
CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T.astype(np.float32)  # of the unit cube
EDGES = np.stack([(a, b) for a in CORNERS for b in CORNERS if (b - a).sum() == 1 == (b != a).sum()])


class SceneSubject:
    """A fitted scene as a Canvas draws it, with its controls on the page. The page's unit is half
    the side of the scene's box, and its origin the box's centre.

    size: the entry of SIZES that the finest picture has until somebody chooses another.
    """

    def __init__(self, page: Page, viewer: Viewer, model: RadianceField, size: str = "512 x 512"):
        self.viewer = viewer
        self.model = model
        self._page = page
        self._centre = np.asarray(viewer.box.centre)
        self._half = viewer.box.half
        gui = page.server.gui
        self._mode = gui.add_dropdown("Show", MODES, initial_value=MODES[0])
        self._size = gui.add_dropdown(
            "Finest", tuple(SIZES), initial_value=size, hint="Pixels of a picture at rest"
        )
        with gui.add_folder("Crop", expand_by_default=False):
            self._crop = gui.add_checkbox("On", False, hint="Hide what lies outside the box")
            self._ranges = [self._range(gui, axis) for axis in range(3)]
        self._outline = page.server.scene.add_line_segments("/crop", EDGES, ORANGE, visible=False)
        for control in (self._mode, self._size, self._crop, *self._ranges):
            control.on_update(self._changed)
        pose = circle_poses(1, viewer.distance / self._half, up=viewer.up)[0]
        camera = viewer.camera
        page.begin_at(pose, viewer.up, 2 * float(np.arctan(camera.height / 2 / camera.fy)))

    def _range(self, gui: Any, axis: int) -> Any:
        """The slider of a crop along an axis, in the world's units."""
        low = float(self._centre[axis] - self._half)
        high = float(self._centre[axis] + self._half)
        return gui.add_multi_slider("xyz"[axis], low, high, (high - low) / 200, (low, high))

    def _changed(self, _: Any) -> None:
        """Draw the crop's outline, and wake whoever draws the rest."""
        low, high = (self._corners - self._centre) / self._half
        self._outline.visible = self._crop.value
        self._outline.points = (low + EDGES * (high - low)).astype(np.float32)
        self._page.stir()

    @property
    def _corners(self) -> np.ndarray:
        """The crop's lowest and highest, (2, 3), in the world's units."""
        return np.array([control.value for control in self._ranges], float).T

    @property
    def settings(self) -> Hashable:
        crop = tuple(control.value for control in self._ranges) if self._crop.value else None
        return self._mode.value, crop

    @property
    def most(self) -> int:
        return SIZES[self._size.value]

    def values(self, pose: np.ndarray, camera: Camera) -> np.ndarray:
        """Colour, depth, opacity: (H, W, 5)."""
        model: Radiance = self.model
        if self._crop.value:
            model = Cropped(model, *self.viewer.box.to_unit(self._corners))
        colour, *layers = self.viewer.picture(model, self.to_world(pose), camera)
        return np.concatenate([colour, *(layer[..., None] for layer in layers)], axis=2)

    def colours(self, values: np.ndarray) -> np.ndarray:
        if self._mode.value == "depth":
            return depth_picture(values[..., 3])
        return values[..., :3] if self._mode.value == "colour" else values[..., [4, 4, 4]]

    def to_world(self, pose: np.ndarray) -> np.ndarray:
        """A pose (4, 4) of the page's units in the world's."""
        moved = pose.copy()
        moved[:3, 3] = self._centre + self._half * pose[:3, 3]
        return moved

    def to_page(self, pose: np.ndarray) -> np.ndarray:
        """The inverse of `to_world`."""
        moved = pose.copy()
        moved[:3, 3] = (pose[:3, 3] - self._centre) / self._half
        return moved


class PathPanel:
    """Controls of a camera's path through a scene. folder: of the run, where its files go; renders:
    whether the path can be rendered."""

    def __init__(self, canvas: Canvas, subject: SceneSubject, folder: Path, renders: bool = True):
        self.canvas = canvas
        self.page = canvas.page
        self.subject = subject
        self.folder = folder
        self.keyframes: list[Keyframe] = []
        self._drawn: list[Any] = []
        self._playing: Optional[threading.Thread] = None
        gui = self.page.server.gui
        with gui.add_folder("Camera path", expand_by_default=False):
            self._seconds = gui.add_slider("Seconds a keyframe", 0.5, 10.0, 0.5, 2.0)
            gui.add_button("Add a keyframe here").on_click(lambda e: self.add(look_of(e.client)))
            gui.add_button("Delete the last").on_click(lambda _: self.delete())
            gui.add_button("Play").on_click(lambda e: self._told(self.play, e.client))
            gui.add_button("Load cameras.json").on_click(lambda _: self._told(self.load))
            gui.add_button("Save cameras.json").on_click(lambda _: self._told(self.save))
            if renders:
                gui.add_button("Render path.gif").on_click(lambda _: self._told(self.render))

    def _told(self, act: Any, *arguments: Any) -> None:
        """Do what may fail, and say on the page why it did."""
        try:
            act(*arguments)
        except (OSError, ValueError) as error:
            self.page.say("This did not work", str(error))

    @property
    def frames(self) -> int:
        """How many the whole path has."""
        return max(2, round(FPS * self._seconds.value * (len(self.keyframes) - 1)))

    def add(self, look: Look) -> None:
        """A keyframe where somebody looks from."""
        self.keyframes.append(Keyframe(self.subject.to_world(look.pose), look.angle, look.aspect))
        self._draw()

    def delete(self) -> None:
        """The last keyframe, if there is one, goes."""
        del self.keyframes[-1:]
        self._draw()

    def _draw(self, visible: bool = True) -> None:
        """The keyframes and the way between them, small, in the scene, where they are visible."""
        scene = self.page.server.scene
        for node in self._drawn:
            node.remove()
        self._drawn = []
        if not visible:
            return
        for n, keyframe in enumerate(self.keyframes):
            pose = self.subject.to_page(keyframe.pose)
            self._drawn.append(
                scene.add_camera_frustum(
                    f"/path/{n}",
                    keyframe.angle,
                    keyframe.aspect,
                    scale=0.1,
                    thickness=2.0,
                    thickness_units="screen",
                    color=ORANGE,
                    wxyz=turn_of(pose),
                    position=tuple(pose[:3, 3]),
                )
            )
        if len(self.keyframes) > 1:
            cameras = between(self.keyframes, 16 * len(self.keyframes))
            places = np.stack([self.subject.to_page(camera.pose)[:3, 3] for camera in cameras])
            lines = np.stack([places[:-1], places[1:]], axis=1)
            self._drawn.append(
                scene.add_line_segments(
                    "/path/way",
                    lines.astype(np.float32),
                    ORANGE,
                    thickness=2.0,
                    thickness_units="screen",
                )
            )

    def play(self, client: Any) -> None:
        """Let somebody fly along the path, unless they or others do already; ValueError where there
        is none."""
        cameras = between(self.keyframes, self.frames)
        if self._playing is None or not self._playing.is_alive():
            self._playing = threading.Thread(target=self._fly, args=(client, cameras), daemon=True)
            self._playing.start()

    def _fly(self, client: Any, cameras: list[Keyframe]) -> None:
        self._draw(visible=False)
        for camera in cameras:
            if self.page.closed.is_set():
                return
            move(client, self.subject.to_page(camera.pose), camera.angle)
            self.page.stir()
            time.sleep(1 / FPS)
        self._draw()

    def load(self) -> None:
        """Take the keyframes of cameras.json in the place of these; ValueError where there are
        none."""
        self.keyframes = load_path(self.folder / CAMERAS)
        self._draw()

    def save(self) -> Path:
        """Write cameras.json, as nerfstudio does; returns the path. ValueError where there is no
        path."""
        path = save_path(self.folder / CAMERAS, self.keyframes, self.frames, FPS)
        self.page.say("Saved", str(path))
        return path

    def render(self) -> None:
        """Ask for path.gif, which is rendered frame by frame beside what is looked at; ValueError
        where there is no path."""
        self.canvas.jobs.put(self._rendered(between(self.keyframes, self.frames)))
        self.page.stir()

    def _rendered(self, cameras: list[Keyframe]) -> Iterator[None]:
        pictures = []
        height = max(1, int(np.sqrt(FRAME_PIXELS / cameras[0].aspect)))
        width = max(1, int(height * cameras[0].aspect))
        for n, keyframe in enumerate(cameras):
            if n % FPS == 0:
                self.page.say("Rendering", f"frame {n + 1} of {len(cameras)}", 3.0)
            camera = camera_of(Look((), (), keyframe.angle, width, height), FRAME_PIXELS)
            pose = self.subject.to_page(keyframe.pose)
            pictures.append((yield from self.canvas.picture(pose, camera)))
            yield
        self.page.say("Rendered", str(save_gif(self.folder / "path.gif", pictures, FPS)))
