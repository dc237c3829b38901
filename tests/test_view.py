"""The viewer in the browser: pictures that grow finer, a page that others look at by websocket,
a training that is watched, and the app as its users meet it."""

import contextlib
import io
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from jgrid import checkpoint, cli
from jgrid.browser import Page, show, watch
from jgrid.browser.canvas import Canvas, camera_of
from jgrid.browser.live import SHARE, Watch
from jgrid.browser.page import Look
from jgrid.browser.path import Keyframe, between, load_path, save_path
from jgrid.browser.scene import PathPanel, SceneSubject
from jgrid.browser.still import OUTSIDE, PictureSubject
from jgrid.field import DecoderConfig, DenseGridConfig, Domain, field_to_dict
from jgrid.image.task import ImageTask, pixel_centres
from jgrid.interrupt import Interrupted
from jgrid.run import model_of, save_model
from jgrid.scene.camera import Box, Camera, circle_poses, look_at
from jgrid.scene.crop import Cropped
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.viewer import Viewer
from jgrid.surface.task import write_surface
from jgrid.trainer import TrainConfig, Trainer

import fit_views
import jittor as jt
import numpy as np
import pytest
import trimesh
import view
from conftest import DEVICE, SCENE_FIELD
from PIL import Image
from test_views import TRAIN, VIEWS, ball  # noqa: F401 - a fixture

viser = pytest.importorskip("viser", reason="viser is not installed: pip install 'jgrid[viewer]'")
import msgspec  # noqa: E402 - viser brings it, and the next two
import zstandard  # noqa: E402
from viser import _messages as messages  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

LOOK = Look((0.0, -3.0, 0.0), (0.7071068, -0.7071068, 0.0, 0.0), 0.7, 400, 300)
CHROMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Fog:
    """A radiance that is dense everywhere, of one colour."""

    enclosed = False

    def density(self, x):
        return jt.full((x.shape[0],), 200.0)

    def __call__(self, x, direction, ray):
        return self.density(x), jt.ones((x.shape[0], 3)) * jt.array([0.2, 0.4, 0.6])


def fog_viewer():
    box = Box(2.0, (10.0, 20.0, 30.0))
    camera = Camera(80, 60, 90.0, 90.0, 40.0, 30.0)
    return Viewer(Occupancy(8, 1 / 64), camera, box, "white", 8.0)


class Gradient:
    """A subject whose values are where its camera's pixels are, and that notes what is asked."""

    settings = "first"
    most = 2**16

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.asked = []

    def values(self, pose, camera):
        self.asked.append(camera.width * camera.height)
        time.sleep(self.seconds * self.asked[-1])
        direction = camera.rays(pose)[1]
        return (direction.reshape(camera.height, camera.width, 3) + 1) / 2

    def colours(self, values):
        return values


class Nobody:
    """A page without a browser: who looks, and what they were shown."""

    def __init__(self, **looks):
        self.seen = looks
        self.shown = []
        self.said = []
        self.begins = np.eye(4)

    def looks(self):
        return self.seen

    def show(self, name, pixels):
        self.shown.append((name, pixels))

    def say(self, *words):
        self.said.append(words)


def finish(canvas):
    steps = 0
    while canvas.work():
        steps += 1
        assert steps < 1000
    return steps


def test_a_look_is_the_camera_of_a_browser():
    """The quaternion above turns about x, so that OpenCV's forward, z, is y, and down is -z."""
    np.testing.assert_allclose(LOOK.pose, look_at([0.0, -3.0, 0.0]), atol=1e-6)
    camera = camera_of(LOOK, 2**20)
    assert (camera.width, camera.height) == (400, 300)
    np.testing.assert_allclose(2 * np.arctan(150 / camera.fy), 0.7)
    smaller = camera_of(LOOK, 1200)
    assert (smaller.width, smaller.height) == (40, 30)
    np.testing.assert_allclose(2 * np.arctan(15 / smaller.fy), 0.7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"place": (0.0, np.nan, 0.0)},
        {"turn": (0.0, 0.0, 0.0, 0.0)},
        {"angle": 0.0},
        {"angle": np.inf},
        {"width": 0},
        {"height": 10**9},
    ],
)
def test_impossible_looks_are_left_out(wrong):
    assert LOOK.possible and not LOOK._replace(**wrong).possible


def test_pictures_grow_finer_up_to_the_limit():
    page = Nobody(a=LOOK)
    subject = Gradient()
    canvas = Canvas(page, subject)
    finish(canvas)
    sizes = [pixels.shape[0] * pixels.shape[1] for _, pixels in page.shown]
    assert sizes == sorted(set(sizes)) and 0.95 * subject.most < sizes[-1] <= subject.most
    assert sizes[0] < sizes[-1] and not canvas.work()
    subject.most = 2**24  # the window has fewer
    finish(canvas)
    assert page.shown[-1][1].shape == (300, 400, 3)


def test_no_piece_takes_long():
    page = Nobody(a=LOOK)
    slow = Gradient(seconds=1e-5)  # a ray
    canvas = Canvas(page, slow)
    finish(canvas)
    assert canvas.piece < 2**15 and max(slow.asked[3:]) <= 2**15
    assert len(slow.asked) > len(page.shown)  # the finest came in bands, which are the picture
    whole = Gradient().values(LOOK.pose, camera_of(LOOK, slow.most))
    np.testing.assert_allclose(page.shown[-1][1], whole, atol=1e-6)


def test_who_moves_is_first_and_coarse():
    page = Nobody(a=LOOK, b=LOOK)
    canvas = Canvas(page, Gradient())
    finish(canvas)
    del page.shown[:]
    page.seen = {"a": LOOK, "b": LOOK._replace(place=(1.0, -3.0, 0.0))}
    canvas.work()
    ((name, pixels),) = page.shown
    assert name == "b" and pixels.shape[0] * pixels.shape[1] <= canvas.piece + 400
    canvas.work()
    page.seen["b"] = LOOK
    canvas.subject.settings = "second"  # concerns all
    del page.shown[:]
    canvas.work()
    canvas.work()
    assert {name for name, _ in page.shown} == {"a", "b"}
    page.seen = {}
    assert not canvas.work() and not canvas._sheets


def test_a_live_subject_is_drawn_again_at_its_finest():
    page = Nobody(a=LOOK)
    canvas = Canvas(page, Gradient(), live=True)
    for _ in range(200):
        assert canvas.work()
    sizes = [pixels.size for _, pixels in page.shown]
    assert len(sizes) > 5 and sizes[-1] == sizes[-2] == max(sizes)


def test_jobs_go_on_beside_looks():
    page = Nobody(a=LOOK)
    canvas = Canvas(page, Gradient())
    done = []

    def job():
        for n in range(3):
            done.append(n)
            yield
        raise OSError("no room")

    canvas.jobs.put(job())
    canvas.work()
    assert page.shown and not done  # the first picture comes first
    finish(canvas)
    assert done == [0, 1, 2] and page.said == [("This did not work", "no room")]


def keyframes():
    poses = circle_poses(3, 4.0)
    return [Keyframe(pose, 0.6 + 0.1 * n, 1.5) for n, pose in enumerate(poses)]


def test_a_path_passes_its_keyframes(tmp_path):
    cameras = between(keyframes(), 9)
    for n, keyframe in enumerate(keyframes()):
        np.testing.assert_allclose(cameras[4 * n].pose, keyframe.pose, atol=1e-6)
        np.testing.assert_allclose(cameras[4 * n].angle, keyframe.angle)
    for camera in cameras:
        turn = camera.pose[:3, :3]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-6)
    assert np.linalg.norm(cameras[1].pose[:3, 3] - keyframes()[0].pose[:3, 3]) > 0.1
    for few, frames in ((keyframes()[:1], 9), ([], 9), (keyframes(), 1)):
        with pytest.raises(ValueError, match="two keyframes"):
            between(few, frames)


def test_a_path_is_saved_as_nerfstudio_does(tmp_path):
    saved = json.loads(save_path(tmp_path / "cameras.json", keyframes(), 9, 12).read_text())
    assert len(saved["camera_path"]) == 9 and saved["seconds"] == 0.75
    frame = saved["camera_path"][0]
    # row by row, so that the fourth number is a place
    np.testing.assert_allclose(np.reshape(frame["camera_to_world"], (4, 4)), keyframes()[0].pose)
    np.testing.assert_allclose(frame["camera_to_world"][3], keyframes()[0].pose[0, 3])
    np.testing.assert_allclose([frame["fov"], frame["aspect"]], [np.degrees(0.6), 1.5])
    np.testing.assert_allclose(saved["keyframes"][0]["matrix"], frame["camera_to_world"], atol=1e-9)
    assert saved["render_width"] == 1080 and saved["render_height"] == 720
    for found, keyframe in zip(load_path(tmp_path / "cameras.json"), keyframes()):
        np.testing.assert_allclose(found.pose, keyframe.pose, atol=1e-12)
        np.testing.assert_allclose(found[1:], keyframe[1:])


MIRRORED = [-1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"keyframes": [{"fov": 50, "aspect": 1}]}, "matrix"),
        ({"keyframes": [{"matrix": [0.0] * 16, "fov": 50, "aspect": 1}]}, "no pose"),
        ({"keyframes": [{"matrix": MIRRORED, "fov": 50, "aspect": 1}]}, "no pose"),
        ({"keyframes": [{"matrix": [1.0] * 9, "fov": 50, "aspect": 1}]}, "not 16 numbers"),
        ({"keyframes": [{"matrix": list(np.eye(4).ravel()), "fov": 180, "aspect": 1}]}, "fov"),
        ({"keyframes": [{"matrix": list(np.eye(4).ravel()), "fov": 50}]}, "aspect"),
        ({"keyframes": 3}, "wanted an object"),
        ([], "wanted an object"),
        (None, "no such file"),
    ],
)
def test_another_file_is_no_path(tmp_path, changed, words):
    path = tmp_path / "cameras.json"
    if changed is not None:
        path.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=f"cameras.json.*{words}"):
        load_path(path)


def test_a_crop_hides_what_is_outside():
    x = jt.array(np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.8], [0.1, 0.5, 0.5]], np.float32))
    density = Cropped(Fog(), [0.4, 0.4, 0.4], [0.6, 0.6, 0.7]).density(x).numpy()
    np.testing.assert_array_equal(density, [200.0, 0.0, 0.0])
    viewer = fog_viewer()
    pose = look_at([10.0, 12.0, 30.0], viewer.box.centre)
    opacity = viewer.picture(Fog(), pose)[2]
    assert (opacity > 0.99).mean() > 0.5
    half = viewer.picture(Cropped(Fog(), [0.5, 0, 0], [1, 1, 1]), pose)[2]
    assert (half[:, :38] == 0).all() and (half[15:45, 42:60] > 0.99).all()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def page():
    made = Page(port=free_port())
    yield made
    made.close()


class Visitor:
    """A browser's part: it sends its camera, and keeps the messages that come."""

    def __init__(self, page):
        address = page.url.replace("http", "ws")
        self.socket = connect(address, subprotocols=[f"viser-v{viser.__version__}"], max_size=None)
        self.messages = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        try:
            for data in self.socket:
                size = int.from_bytes(data[8:16], "little")
                content = zstandard.ZstdDecompressor().decompress(data[16 : 16 + size])
                for message in msgspec.msgpack.decode(content)["messages"]:
                    self.messages.put(message)
        except Exception:  # the server has gone
            pass

    def look(self, look=LOOK):
        fields = dict(near=0.01, far=100.0, look_at=(0.0, 0.0, 0.0), up_direction=(0.0, 0.0, 1.0))
        message = messages.ViewerCameraMessage(
            look.turn,
            look.place,
            look.angle,
            image_height=look.height,
            image_width=look.width,
            **fields,
        )
        self.socket.send(msgspec.msgpack.encode(message.as_serializable_dict()))

    def wait_for(self, kind, seconds=20.0):
        """The next message of a kind."""
        end = time.time() + seconds
        while True:
            message = self.messages.get(timeout=max(end - time.time(), 0.01))
            if message["type"] == kind:
                return message

    def picture(self):
        data = None
        while data is None:  # until one is drawn
            data = self.wait_for("BackgroundImageMessage")["rgb_data"]
        return np.asarray(Image.open(io.BytesIO(data)), np.float32) / 255


@pytest.fixture
def served(page):
    """Serve a canvas of a page in this thread's place: viser only notes, so any thread may draw,
    as long as it is one."""

    def until(canvas, condition, seconds=20.0):
        end = time.time() + seconds
        while not condition():
            assert time.time() < end, "this takes too long"
            if not canvas.work():
                page.wait(0.05)

    return until


def scene_canvas(page):
    subject = SceneSubject(page, fog_viewer(), Fog())
    canvas = Canvas(page, subject)
    canvas.warm()
    return subject, canvas


def test_a_visitor_sees_the_scene(page, served):
    subject, canvas = scene_canvas(page)
    visitor = Visitor(page)
    began = time.time()
    visitor.look()
    pictures = []
    listening = threading.Thread(target=lambda: pictures.append(visitor.picture()), daemon=True)
    listening.start()
    served(canvas, lambda: pictures)
    assert time.time() - began < 2
    (found,) = pictures
    # the page's unit is half the box's side, its origin the box's centre
    pose = look_at([10.0, 20.0 - 2 * 3.0, 30.0], [10.0, 20.0, 30.0])
    height, width, _ = found.shape
    assert abs(width / height - 4 / 3) < 0.02
    focal = height / 2 / np.tan(0.35)
    camera = Camera(width, height, focal, focal, width / 2, height / 2)
    wanted = subject.viewer.picture(Fog(), pose, camera)
    assert np.abs(found - wanted[0]).mean() < 0.02
    subject._mode.value = "opacity"
    served(canvas, lambda: canvas._sheets[0].seen[1][0] == "opacity" and canvas._sheets[0].done)
    np.testing.assert_allclose(subject.colours(np.full((1, 1, 5), 0.25)), 0.25)
    subject._ranges[0].value = (10.0, 12.0)
    subject._crop.value = True
    seen = subject.values(LOOK.pose, camera_of(LOOK, 1200))[..., 4]
    assert (seen[:, :18] == 0).all() and (seen[10:20, 22:28] > 0.99).all()
    subject._mode.value = "depth"
    assert subject.colours(subject.values(LOOK.pose, camera_of(LOOK, 1200))).shape == (30, 40, 3)


def test_keyframes_are_kept_in_the_worlds_units(page, served, tmp_path):
    subject, canvas = scene_canvas(page)
    panel = PathPanel(canvas, subject, tmp_path)
    panel._told(panel.save)  # of no path: said on the page, and nothing is written
    assert not list(tmp_path.iterdir())
    visitor = Visitor(page)
    visitor.look()
    served(canvas, lambda: page.looks())
    (look,) = page.looks().values()
    panel.add(look)
    panel.add(look._replace(place=(1.0, -3.0, 0.0)))
    panel.add(look)
    panel.delete()
    assert len(panel.keyframes) == 2
    np.testing.assert_allclose(panel.keyframes[0].pose[:3, 3], [10.0, 14.0, 30.0], atol=1e-6)
    panel._seconds.value = 0.5
    frames = json.loads(panel.save().read_text())["camera_path"]
    assert len(frames) == 6
    np.testing.assert_allclose(frames[-1]["camera_to_world"][3], 12.0)
    panel.delete()
    panel.load()
    assert len(panel.keyframes) == 2
    panel.render()
    gif = tmp_path / "path.gif"
    served(canvas, gif.exists, 60.0)
    with Image.open(gif) as written:
        assert written.n_frames == 6 and abs(written.size[0] / written.size[1] - 4 / 3) < 0.01
    (client,) = page.server.get_clients().values()
    panel.play(client)
    panel._playing.join(10)
    np.testing.assert_allclose(client.camera.position, [1.0, -3.0, 0.0], atol=1e-5)


def field_of(dim, n_out, aspect=None):
    decoder = DecoderConfig(width=8, depth=1)
    config = DenseGridConfig(finest=8, coarsest=4, levels=2, channels=2, decoder=decoder)
    return config, config.build(Domain(dim, n_out, aspect))


def test_a_picture_is_asked_for_the_pixels_in_view(page):
    _, model = field_of(2, 3)
    subject = PictureSubject(page, model, 30, 40)
    # straight above, so that the window shows the picture's longer side, 2, exactly
    pose = look_at([0.0, 0.0, 1.0], up=[0.0, 1.0, 0.0])
    seen = subject.values(pose, Camera(40, 40, 20.0, 20.0, 20.0, 20.0))
    wanted = model.values(pixel_centres(30, 40)).reshape(30, 40, 3)
    np.testing.assert_allclose(seen[5:35], np.clip(wanted, 0, 1), atol=1e-4)
    assert (seen[:5] == np.float32(OUTSIDE)).all() and (seen[35:] == np.float32(OUTSIDE)).all()
    # nearer, finer than the picture's own pixels
    near = look_at([0.0, 0.0, 0.1], [0.0, 0.0, 0.0], up=[0.0, 1.0, 0.0])
    fine = subject.values(near, Camera(40, 40, 20.0, 20.0, 20.0, 20.0))
    x, y = np.meshgrid((np.arange(40) + 0.5) / 400 + 0.45, (np.arange(40) + 0.5) / 300 + 26 / 60)
    points = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
    np.testing.assert_allclose(fine.reshape(-1, 3), np.clip(model.values(points), 0, 1), atol=1e-4)
    away = look_at([0.0, 0.0, 1.0], [0.0, 0.0, 2.0], up=[0.0, 1.0, 0.0])
    assert (subject.values(away, Camera(4, 4, 2.0, 2.0, 2.0, 2.0)) == np.float32(OUTSIDE)).all()


@pytest.fixture
def runs(tmp_path):
    """Folders as the apps leave them: of a picture and of a surface."""
    for name in ("picture", "surface"):
        (tmp_path / name).mkdir()
    config, model = field_of(2, 3, (1.0, 0.75))
    shape = {"width": 16, "height": 12, "n_out": 3}
    save_model(tmp_path / "picture", model, {"field": field_to_dict(config), **shape})
    config, model = field_of(3, 1)
    saved = {"field": field_to_dict(config), "scale": 2.0, "offset": [1.0, 0.0, 0.0]}
    save_model(tmp_path / "surface", model, saved)
    sphere = trimesh.creation.icosphere(subdivisions=2)
    colours = np.full((len(sphere.vertices), 3), 0.5)
    write_surface(tmp_path / "surface" / "mesh.ply", sphere.vertices, sphere.faces)
    path = tmp_path / "surface" / "error_map.ply"
    write_surface(path, sphere.vertices, sphere.faces, colours)
    return tmp_path


def test_a_picture_and_a_surface_are_shown(page, runs, served):
    visitor = Visitor(page)
    assert show(page, model_of(runs / "surface")) is None
    first = visitor.wait_for("GlbMessage")
    (choice,) = (h for h in page.server.gui._gui_input_handle_from_uuid.values())
    assert choice.options == ("surface", "distance to the target", "normals")

    def vertex_colours(message):
        data = io.BytesIO(message["props"]["glb_data"])
        (mesh,) = trimesh.load(data, file_type="glb").geometry.values()
        assert np.abs(mesh.bounds).max() <= 1.0001  # the page's unit
        return np.asarray(mesh.visual.vertex_colors)[:, :3]

    assert np.ptp(vertex_colours(first), axis=0).max() == 0
    choice.value = "normals"
    assert np.ptp(vertex_colours(visitor.wait_for("GlbMessage")), axis=0).min() > 200
    choice.value = "distance to the target"
    assert abs(vertex_colours(visitor.wait_for("GlbMessage")).mean() - 128) < 1
    canvas = show(page, model_of(runs / "picture" / "model.safetensors"))
    visitor.look()
    served(canvas, lambda: canvas._sheets and canvas._sheets[0].done)
    assert visitor.picture().shape[2] == 3


def test_a_taken_port_and_a_missing_viser_are_said(page, monkeypatch):
    port = page.server.get_port()
    with pytest.raises(ValueError, match=f"127.0.0.1:{port}.*another port"):
        Page(port=port)
    with pytest.raises(ValueError, match="host"):
        Page(host="no.such.host.invalid", port=port)
    with monkeypatch.context() as patch:  # somebody takes the port just then
        patch.setattr("jgrid.browser.page._check_free", lambda host, port: None)
        with pytest.raises(ValueError, match=f":{port} was taken"):
            Page(port=port)
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(ValueError, match=r"jgrid\[viewer\]"):
        Page(port=free_port())


class Trained:
    """What Watch asks of a trainer."""

    step = 3
    history = [{"step": 2, "psnr": 21.5}]

    class config:
        minutes = 0
        steps = 10

    class task:
        metric = "psnr"

    def __init__(self):
        self.pauses = 0

    def paused(self):
        self.pauses += 1
        return jt.no_grad()


class Clock:
    """Time that passes in `sleep` alone, so that a busy machine changes nothing."""

    def __init__(self, monkeypatch):
        self.now = 1.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.now += seconds


def test_watching_takes_a_bounded_share_of_the_time(monkeypatch):
    clock = Clock(monkeypatch)
    page = Nobody()
    canvas = Canvas(page, Gradient(seconds=1e-6), live=True)
    status = type("Text", (), {"content": ""})()
    beside = Watch(canvas, status, "PSNR")
    trainer = Trained()
    beside(trainer)
    assert not trainer.pauses and not status.content  # nobody looks
    page.seen = {"a": LOOK}
    began = clock.now
    drawing = 0.0
    while clock.now - began < 1.5:
        before = clock.now
        beside(trainer)
        drawing += clock.now - before
        clock.sleep(0.002)  # a step
    assert 0.7 * SHARE < drawing / (clock.now - began) < 1.3 * SHARE
    assert page.shown and status.content == "Step 3 of 10; PSNR 21.50 dB at 2"


def weights(out):
    return checkpoint.read(out / "model.safetensors")[0]


def test_a_watched_run_has_the_same_numbers(ball, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Somebody looks all the time, at a training that shows the scene between all steps."""
    monkeypatch.setattr("jgrid.browser.live.SHARE", 0.999)
    drawn = []

    class Seen(Watch):
        def __call__(self, trainer):
            end = time.time() + 20
            while not self.canvas.page.looks() and time.time() < end:
                time.sleep(0.01)
            super().__call__(trainer)
            drawn.append(len(self.canvas._sheets))

    monkeypatch.setattr("jgrid.browser.Watch", Seen)
    visitors = []

    def watched(page, *rest):
        watch(page, *rest)
        visitors.append(Visitor(page))
        visitors[0].look()

    monkeypatch.setattr(fit_views, "watch", watched)
    settings = dict(scene=ball, views=VIEWS, field=SCENE_FIELD, device=DEVICE, train=TRAIN)
    fit_views.main(fit_views.Config(out=tmp_path / "plain", **settings))
    port = free_port()
    config = fit_views.Config(out=tmp_path / "watched", view=True, view_port=port, **settings)
    fit_views.main(config)
    assert drawn == [1] * (TRAIN.steps - 1)  # after those that compile
    assert f"http://127.0.0.1:{port} while it trains" in capsys.readouterr().out
    visitors[0].picture()
    plain = weights(tmp_path / "plain")
    others = weights(tmp_path / "watched")
    assert plain.keys() == others.keys()
    assert all(np.array_equal(plain[name], others[name]) for name in plain) or DEVICE == "cuda"
    for file in ("result.json", "metrics.jsonl"):
        assert (tmp_path / "watched" / file).exists()
    results = [json.loads((tmp_path / n / "result.json").read_text()) for n in ("plain", "watched")]
    assert results[0]["psnr"] == pytest.approx(results[1]["psnr"], abs=1e-3)


def test_what_a_watch_does_is_no_training(tmp_path):
    task = ImageTask(np.full((8, 8, 3), 0.5))
    model = task.build(field_of(2, 3)[0])
    trainer = Trainer(task, model, TrainConfig(steps=6, batch=64))
    seen = []

    def look(trainer):
        seen.append(trainer.step)
        with trainer.paused():
            time.sleep(0.2)

    trainer.watch = look
    result = trainer.fit()
    assert seen == [2, 3, 4, 5, 6]
    assert result["seconds_train"] < 0.5 < 1.0 < result["seconds_total"]


def test_a_run_goes_on_watched_or_not(ball, tmp_path, monkeypatch):  # noqa: F811
    settings = dict(scene=ball, views=VIEWS, field=SCENE_FIELD, device=DEVICE, train=TRAIN)
    plain = Trainer._step

    def interrupted(self, step, seconds=0.0):
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(self, step, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", interrupted)
        with pytest.raises(Interrupted):
            fit_views.main(fit_views.Config(out=tmp_path, **settings))
    flags = {"resume": True, "view": True, "view_port": free_port()}
    fit_views.main(fit_views.Config(out=tmp_path, **settings, **flags))
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == TRAIN.steps


def test_view_is_for_trainings():
    with pytest.raises(ValueError, match="view.*apps/view.py"):
        fit_views.Config(view=True, from_="model.safetensors")


def ends_with_one_line(arguments, words, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["view.py", "--port", str(free_port()), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.run(view.Config, view.main)
    lines = capfd.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1, lines
    assert lines[0].startswith("error: ") and words in lines[0], lines


def test_what_cannot_be_shown_is_one_line(runs, monkeypatch, capfd):
    model = runs / "picture" / "model.safetensors"
    (runs / "empty").mkdir()
    (runs / "cut").mkdir()
    (runs / "cut" / "model.safetensors").write_bytes(model.read_bytes()[:-100])
    checkpoint.save(runs / "other.safetensors", {"w": np.zeros(3)}, {"kind": "zoo"})
    (runs / "surface" / "mesh.ply").write_text("ply\n")
    for run, words in (
        ("empty", "no model.safetensors in it"),
        ("nowhere", "no such file or folder"),
        ("cut", "damaged"),
        ("other.safetensors", "not a model of fit_image, fit_sdf or fit_views"),
        ("surface", "mesh.ply"),
    ):
        ends_with_one_line([str(runs / run)], words, monkeypatch, capfd)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ends_with_one_line([str(model), "--port", port], f":{port}", monkeypatch, capfd)
    ends_with_one_line([str(model), "--port", "0"], "--port", monkeypatch, capfd)
    monkeypatch.setitem(sys.modules, "viser", None)
    ends_with_one_line([str(model)], "jgrid[viewer]", monkeypatch, capfd)


def test_ctrl_c_ends_it_quietly(runs, repository):
    command = [sys.executable, str(repository / "apps" / "view.py"), str(runs / "picture")]
    command += ["--port", str(free_port())]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen(command, cwd=runs, env={**os.environ}, **pipes)
    assert "Ctrl-C ends it" in running.stdout.readline(), running.communicate()
    running.send_signal(signal.SIGINT)
    out, error = running.communicate(timeout=60)
    assert (running.returncode, out, error) == (0, "", "")


def test_a_browser_shows_the_scene(page, tmp_path, served):
    """What a browser's own picture of the page shows is the scene, at its place."""
    chrome = next(filter(None, map(shutil.which, CHROMES)), None)
    if chrome is None:
        pytest.skip(f"no headless browser here: none of {', '.join(CHROMES)}")
    subject, canvas = scene_canvas(page)
    flags = ["--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
    flags += ["--enable-unsafe-swiftshader", f"--user-data-dir={tmp_path}", "--window-size=640,520"]
    log = subprocess.DEVNULL
    browser = subprocess.Popen(
        [chrome, *flags, "--remote-debugging-port=0", page.url], stdout=log, stderr=log
    )
    found = []

    def photograph():
        ((number, client),) = page.server.get_clients().items()
        width = round(240 * page.looks()[number].aspect)
        with contextlib.suppress(RuntimeError):  # the browser ends meanwhile
            while not page.closed.is_set():
                found.append(client.get_render(240, width, timeout=60.0)[..., :3] / 255)

    def alike():
        """Whether the last picture is the scene: the first ones may be of the empty page."""
        if not found:
            return False
        (look,) = page.looks().values()
        height, width, _ = found[-1].shape
        camera = camera_of(look._replace(width=width, height=height), 2**20)
        colour, _, opacity = subject.viewer.picture(Fog(), subject.to_world(look.pose), camera)
        assert 0.1 < opacity.mean() < 0.9
        return np.abs(found[-1] - colour).mean() < 0.02

    try:
        served(canvas, lambda: any(s.done >= 2**16 for s in canvas._sheets.values()), 90.0)
        threading.Thread(target=photograph, daemon=True).start()
        served(canvas, alike, 60.0)
    finally:
        page.closed.set()
        browser.terminate()
        browser.wait(20)
