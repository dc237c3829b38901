"""A page in the browser, by viser: who looks at it, from where, and what is shown there.

viser answers browsers in threads of its own, and Jittor bears one thread alone: what a page calls
back only notes what is asked, and wakes whoever draws.
"""

import atexit
import contextlib
import importlib
import io
import socket
import threading
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

WIDEST = 2**14  # pixels of a window
JPEG = 85  # quality of the pictures that are sent
FLIP = np.diag([1.0, -1.0, -1.0])  # between OpenCV's axes, which are viser's, and OpenGL's


class Look(NamedTuple):
    """Where somebody looks from: place (3,) and quaternion (w, x, y, z) of OpenCV's axes in the
    page's units, the vertical angle in radians, the size of their window in pixels."""

    place: tuple[float, ...]
    turn: tuple[float, ...]
    angle: float
    width: int
    height: int

    @property
    def pose(self) -> np.ndarray:
        """Camera-to-page (4, 4), OpenGL axes (right, up, back)."""
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_quat(np.roll(self.turn, -1)).as_matrix() @ FLIP
        pose[:3, 3] = self.place
        return pose

    @property
    def possible(self) -> bool:
        """Whether a camera can look so; browsers may send anything."""
        numbers = np.array([*self.place, *self.turn, self.angle])
        return bool(
            np.isfinite(numbers).all()
            and any(self.turn)
            and 0.01 < self.angle < 3.1
            and 0 < self.width <= WIDEST
            and 0 < self.height <= WIDEST
        )

    @property
    def aspect(self) -> float:
        """Width by height."""
        return self.width / self.height


class Page:
    """A page at http://host:port, until `close`. server: viser's own, for what stands on the page.

    ValueError where viser is not installed, or nobody may listen there.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8080):
        viser = _viser()
        _check_free(host, port)
        with contextlib.redirect_stdout(io.StringIO()):  # its banner
            self.server: Any = viser.ViserServer(host, port, verbose=False)
        self.closed = threading.Event()
        if self.server.get_port() != port:  # which somebody took in between
            self.close()
            raise ValueError(f"{host}:{port} was taken; choose another port")
        self.url = f"http://{'localhost' if host == '0.0.0.0' else host}:{port}"
        self.begins = np.eye(4)  # the pose of those who come
        self._stirred = threading.Event()
        self.server.gui.configure_theme(show_logo=False, show_share_button=False)
        self.server.on_client_connect(self._welcome)
        atexit.register(self.close)

    def _welcome(self, client: Any) -> None:
        client.camera.on_update(lambda _: self.stir())
        self.stir()

    def stir(self) -> None:
        """Wake whoever waits: there is something new."""
        self._stirred.set()

    def wait(self, seconds: float) -> None:
        """Until somebody looks elsewhere or `stir` is called, or for so long."""
        self._stirred.wait(seconds)
        self._stirred.clear()

    def begin_at(self, pose: np.ndarray, up: tuple[float, float, float], angle: float) -> None:
        """Where those who come look from: a pose (4, 4) that sees the origin, around which they
        turn; what is up there; the vertical angle in radians."""
        self.begins = pose
        self.server.scene.set_up_direction(up)
        self.server.initial_camera.position = tuple(pose[:3, 3])
        self.server.initial_camera.look_at = (0.0, 0.0, 0.0)
        self.server.initial_camera.fov = angle

    def looks(self) -> dict[int, Look]:
        """Those who look at the page, by their numbers; without those whose look is impossible,
        such as in a window without a size."""
        found = {n: look_of(client) for n, client in self.server.get_clients().items()}
        return {n: look for n, look in found.items() if look.possible}

    def show(self, number: int, pixels: np.ndarray) -> None:
        """Lay a picture (H, W, 3) in [0, 1] behind what somebody sees."""
        client = self.server.get_clients().get(number)
        if client is not None:
            levels = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
            client.scene.set_background_image(levels, format="jpeg", jpeg_quality=JPEG)
            client.flush()

    def say(self, title: str, text: str, seconds: float = 8.0) -> None:
        """Tell all who look something."""
        for client in self.server.get_clients().values():
            client.add_notification(title, text, auto_close_seconds=seconds)

    def close(self) -> None:
        """Leave the port to others."""
        atexit.unregister(self.close)
        self.closed.set()
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()


def look_of(client: Any) -> Look:
    """The Look of a client of viser's."""
    camera = client.camera
    return Look(
        tuple(map(float, camera.position)),
        tuple(map(float, camera.wxyz)),
        float(camera.fov),
        int(camera.image_width),
        int(camera.image_height),
    )


def turn_of(pose: np.ndarray) -> tuple[float, ...]:
    """The quaternion (w, x, y, z) of OpenCV's axes at a pose (4, 4) of OpenGL's."""
    return tuple(np.roll(Rotation.from_matrix(pose[:3, :3] @ FLIP).as_quat(), 1))


def move(client: Any, pose: np.ndarray, angle: float) -> None:
    """Let a client of viser's look from a pose (4, 4) in the page's units, OpenGL axes."""
    with client.atomic():
        client.camera.position = pose[:3, 3]
        client.camera.wxyz = turn_of(pose)
        client.camera.fov = angle


def _viser() -> Any:
    try:
        return importlib.import_module("viser")
    except ImportError as error:
        raise ValueError(
            f"the viewer needs viser ({error}): pip install 'jgrid[viewer]' brings it"
        ) from None


def _check_free(host: str, port: int) -> None:
    """ValueError where nobody may listen there: viser would take another port without a word."""
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ValueError(
            f"nobody can listen on {host}:{port} ({error.strerror}); choose another port or host"
        ) from None
