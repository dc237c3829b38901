"""Taking a scene home: surfaces with their scale and colours, points, volumes, films, and what is
said where that cannot be."""

import json
import struct
import sys

from jgrid import checkpoint, cli, memory
from jgrid.config import ArgumentError
from jgrid.field import HashGridConfig
from jgrid.run import TensorBoard
from jgrid.scene.camera import Box, Camera, look_at
from jgrid.scene.export import Solid, Surface, save_points, save_volume
from jgrid.scene.files import load_views
from jgrid.scene.glb import coloured, rasterised, save_glb, textured, to_linear
from jgrid.scene.made import make_scene
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.path import CameraPath, pictures, read_path, save_mp4
from jgrid.scene.task import ViewsConfig
from jgrid.scene.viewer import Viewer, load_viewer
from jgrid.surface.files import read_mesh
from jgrid.surface.mesh import load_mesh
from jgrid.trainer import TrainConfig

import export
import fit_image
import fit_sdf
import fit_views
import jittor as jt
import numpy as np
import pytest
import trimesh
from PIL import Image

CENTRE = (10.0, -20.0, 30.0)
CAMERA = Camera(40, 30, 45.0, 45.0, 20.0, 15.0)
TRAIN = TrainConfig(steps=300, batch=8000, eval_every=300)
FIELD = HashGridConfig(coarsest=4, finest=32, levels=4, table_size=2**13)


class Balls:
    """Balls (x, y, z, radius) in units of the box's half side, of density exp(5) per side of the
    cube at their surface, more inside; the colour is that of the direction from the middle."""

    def __init__(self, *balls, share=1.0, sharpness=100.0, enclosed=False):
        self.enclosed = enclosed
        self.balls = np.array(balls, float)
        self.share = share
        self.sharpness = sharpness

    def density(self, x):
        p = (x - 0.5) * (2 / self.share)
        far = [
            jt.sqrt(((p - jt.array(ball[:3].astype(np.float32))) ** 2).sum(1)) - ball[3]
            for ball in self.balls
        ]
        nearest = far[0]
        for other in far[1:]:
            nearest = jt.minimum(nearest, other)
        return jt.exp(jt.clamp(5.0 - self.sharpness * nearest, -12.0, 9.0))

    def __call__(self, x, direction, ray):
        p = x - 0.5
        way = p / jt.sqrt((p**2).sum(1, keepdims=True) + 1e-9)
        return self.density(x), 0.5 + 0.4 * way


def solid(*balls, half=2.0, centre=CENTRE, contracted=False, **density):
    box = Box(half, centre, contracted)
    # what is around them must not colour them
    model = Balls(*balls, share=0.5 if contracted else 1.0, enclosed=contracted, **density)
    occupancy = Occupancy(16, 1 / 256, contracted=contracted)  # all cells are occupied
    return Solid(Viewer(occupancy, CAMERA, box, "white", 3.2 * half), model)


def level_of(made):
    """The density at the balls' surface, per unit of the world."""
    return np.exp(5) / made.box.side


def colours_at(points, centre=CENTRE):
    way = points - np.asarray(centre)
    return 0.5 + 0.4 * way / np.linalg.norm(way, axis=1, keepdims=True)


@pytest.mark.parametrize("contracted", [False, True])
def test_a_ball_keeps_its_place_scale_and_colours(contracted):
    ball = solid((0, 0, 0, 0.6), contracted=contracted)
    surface = ball.surface(level_of(ball), 64)
    radius = np.linalg.norm(surface.vertices - CENTRE, axis=1)
    assert np.abs(radius / 1.2 - 1).max() < 0.01
    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.02)
    way = (surface.vertices - CENTRE) / radius[:, None]
    assert ((surface.normals * way).sum(1) > 0.98).all()  # outwards
    found = ball.colours(surface.vertices, surface.normals)
    assert np.abs(found - colours_at(surface.vertices)).max() < 0.03


def test_the_level_is_where_the_renderings_have_their_edge():
    """Also of a soft ball, whose density says nothing of where it ends."""
    soft = solid((0, 0, 0, 0.6), sharpness=25.0)
    surface = soft.surface(soft.level(), 64)
    radius = np.linalg.norm(surface.vertices - CENTRE, axis=1).mean()
    pose = look_at(np.add(CENTRE, [0, -6.4, 0]), CENTRE)
    camera = Camera(200, 200, 250.0, 250.0, 100.0, 100.0)
    opacity = soft.viewer.picture(soft.model, pose, camera)[2]
    seen = np.sqrt((opacity > 0.5).sum() / np.pi) / 250  # the tangent of the angle to the edge
    assert radius == pytest.approx(6.4 * seen / np.sqrt(1 + seen**2), rel=0.02)


def test_only_watertight_closes_at_the_border_of_the_box():
    wall = solid((0, 0, -1, 0.8))  # half of the ball is below the box
    level = level_of(wall)
    meshes = [
        trimesh.Trimesh(*wall.surface(level, 100, watertight=closed)[:2], process=False)
        for closed in (False, True)
    ]
    assert [mesh.is_watertight for mesh in meshes] == [False, True]
    assert meshes[1].volume == pytest.approx(2 / 3 * np.pi * 1.6**3, rel=0.05)


def test_small_parts_are_dropped():
    two = solid((0, 0, 0, 0.5), (0.8, 0.8, 0.8, 0.06))
    level = level_of(two)
    assert two.surface(level, 64, parts=0.02).dropped == 1
    every = two.surface(level, 64)
    assert every.dropped == 0
    assert trimesh.Trimesh(every.vertices, every.faces).body_count == 2


def test_hollows_are_filled_unless_the_cameras_are_in_them():
    """A shell is a ball to who sees it from outside, and a room to who is inside."""

    def shell(distance):
        made = solid((0, 0, 0, 0.7))
        ball = made.model.density
        made.model.density = lambda x: ball(x) * (((x - 0.5) ** 2).sum(1) > 0.25**2)
        made.viewer.distance = distance
        return made

    inner = 4 / 3 * np.pi * 1.0**3
    outer = 4 / 3 * np.pi * 1.4**3
    for distance, hollow, wanted in (
        (6.4, False, outer),
        (6.4, True, outer - inner),
        (0.5, False, outer - inner),
    ):
        surface = shell(distance).surface(np.exp(5) / 4, 48, hollow=hollow)
        mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
        assert mesh.is_watertight and mesh.volume == pytest.approx(wanted, rel=0.03)


def test_fewer_faces_are_the_same_surface():
    ball = solid((0, 0, 0, 0.6))
    surface = ball.surface(level_of(ball), 64, faces=500)
    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    assert len(mesh.faces) <= 500 and mesh.is_watertight
    assert mesh.extents == pytest.approx([2.4] * 3, rel=0.02)


def test_a_glb_stands_upright_in_the_units_of_the_capture(tmp_path):
    """y is up there; vertices far from the origin keep their digits."""
    far = (1e6, 2e6, 500.0)
    ball = solid((0.2, 0, 0.3, 0.4), half=0.01, centre=far)
    surface = ball.surface(level_of(ball), 32)
    colours = ball.colours(surface.vertices, surface.normals)
    for up, turned in {(0.0, 0.0, 1.0): [0, 2, -1], (0.0, 1.0, 0.0): [0, 1, 2]}.items():
        path = save_glb(tmp_path / "a.glb", coloured(surface, colours), up)
        read = trimesh.load(path, force="mesh", process=False)
        signs = [1, 1, -1] if up[2] else [1, 1, 1]
        wanted = surface.vertices[:, np.abs(turned)] * signs
        assert np.abs(read.vertices - wanted).max() < 1e-8
        assert read.volume > 0  # not mirrored
        levels = np.asarray(read.visual.vertex_colors)[:, :3]
        assert np.abs(levels / 255 - colours).max() < 0.003


def unlit(path):
    """Whether the material of a GLB's mesh is."""
    data = path.read_bytes()
    tree = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    (primitive,) = tree["meshes"][0]["primitives"]
    return "KHR_materials_unlit" in tree["materials"][primitive["material"]]["extensions"]


def test_linear_colours_are_for_viewers_that_add_no_light(tmp_path):
    surface = Surface(np.eye(3), np.array([[0, 1, 2]]))
    colours = np.array([[0.2, 0.5, 1.0]] * 3)
    path = save_glb(tmp_path / "a.glb", coloured(surface, colours), linear=True)
    found = np.asarray(read_mesh(path).visual.vertex_colors)[:, :3]
    assert np.abs(found / 255 - to_linear(colours)).max() < 0.003
    assert to_linear(np.array(0.5)) == pytest.approx(0.2140, abs=1e-4)
    assert unlit(path)


def test_triangles_fill_their_texels_once():
    square = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], float)
    face, share = rasterised(square, 8)
    face = face.reshape(8, 8)
    row, column = np.indices((8, 8))
    assert (face[row < column] == 0).all() and (face[row > column] == 1).all()
    place = (share[..., None] * square[face.ravel()]).sum(1) * 8
    assert place == pytest.approx(np.stack([column.ravel(), row.ravel()], 1) + 0.5, abs=1e-4)
    assert (rasterised(square[:1] / 4, 8)[0].reshape(8, 8)[2:] == -1).all()


def test_a_texture_shows_the_colours(tmp_path):
    ball = solid((0, 0, 0, 0.6))
    surface = ball.surface(level_of(ball), 32, faces=400)
    path = save_glb(tmp_path / "a.glb", textured(surface, 256, ball.colours), (0.0, 1.0, 0.0))
    read = trimesh.load(path, force="mesh", process=False)
    image = np.asarray(read.visual.material.baseColorTexture.convert("RGB"))
    assert image.shape == (256, 256, 3) and len(read.faces) == len(surface.faces)
    corners = read.visual.uv[read.faces]
    column, row = (np.array([0, 1]) + [1, -1] * corners.mean(1)).T * 256
    found = image[row.astype(int), column.astype(int)] / 255
    points = read.triangles_center
    assert np.abs(found - colours_at(points)).mean() < 0.01
    assert unlit(path)


def test_points_lie_on_the_surface(tmp_path):
    ball = solid((0, 0, 0, 0.6))
    points, colours = ball.cloud(ball.surface(level_of(ball), 64), 2000)
    assert np.abs(np.linalg.norm(points - CENTRE, axis=1) / 1.2 - 1).max() < 0.01
    read = trimesh.load(save_points(tmp_path / "points.ply", points, colours))
    assert isinstance(read, trimesh.PointCloud) and len(read.vertices) == 2000
    assert np.abs(read.vertices - points).max() < 1e-4
    assert np.abs(read.colors[:, :3] / 255 - colours_at(points)).max() < 0.03


def test_a_volume_holds_the_density_of_the_world(tmp_path):
    one = solid((0.5, 0, 0, 0.4))
    one.viewer.occupancy.carve(one.viewer.occupancy.centres()[:, 0] > 0.5)
    path = save_volume(tmp_path / "d.npz", one.volume(20))
    read = np.load(path)
    place = read["origin"] + read["spacing"] * np.array([14, 10, 9])
    assert place == pytest.approx(np.add(CENTRE, [0.9, 0.1, -0.1]))
    density = read["density"]
    assert density.shape == (20, 20, 20) and str(read["axes"]).startswith("density[i, j, k]")
    # exp(9) per side of the cube, which is 4 long
    assert density[14, 10, 9] == pytest.approx(np.exp(9) / 4, rel=1e-3)
    assert (density[:10] == 0).all() and (density[10:] > 0).all()


def test_what_memory_cannot_hold_is_refused_first(monkeypatch):
    ball = solid((0, 0, 0, 0.6))
    monkeypatch.setattr(memory, "available", lambda: 2**20)
    for work in (
        lambda: ball.surface(1.0),
        lambda: ball.volume(256),
        lambda: textured(Surface(np.eye(3), np.array([[0, 1, 2]])), 4096, ball.colours),
    ):
        with pytest.raises(memory.NotEnough, match="lower `"):
            work()


# --- ways and films


def camera_path(**changes):
    frame = {"camera_to_world": look_at([0, -3, 1]).ravel().tolist(), "fov": 60, "aspect": 1.5}
    return {
        "camera_type": "perspective",
        "render_width": 60,
        "render_height": 41,
        "camera_path": [frame, frame, frame],
        "fps": 6,
        "seconds": 0.5,
        **changes,
    }


def test_a_camera_path_of_nerfstudio_is_read(tmp_path):
    path = tmp_path / "camera_path.json"
    path.write_text(json.dumps(camera_path()))
    way = read_path(path, CAMERA)
    assert way.poses == pytest.approx(np.stack([look_at([0, -3, 1])] * 3))
    assert way.fps == 6
    (camera,) = set(way.cameras)
    assert (camera.width, camera.height) == (60, 41)
    assert camera.fx == camera.fy == pytest.approx(41 / 2 / np.tan(np.pi / 6))
    bare = camera_path(render_width=None, render_height=None, fps=None)
    path.write_text(json.dumps({k: v for k, v in bare.items() if v is not None}))
    way = read_path(path, CAMERA)
    assert (way.cameras[0].width, way.cameras[0].height, way.fps) == (45, 30, 6)


FRAME = camera_path()["camera_path"][0]


@pytest.mark.parametrize(
    "content, words",
    [
        (camera_path(camera_path=[]), "list of 1 to"),
        (camera_path(camera_type="equirectangular"), "only perspective"),
        (camera_path(camera_path=[{**FRAME, "camera_to_world": [1, 2]}]), "frame 0: camera_to"),
        (camera_path(camera_path=[{**FRAME, "camera_to_world": [2.0] * 16}]), "no pose"),
        (camera_path(camera_path=[FRAME, {"fov": 60}]), "frame 1: camera_to"),
        (camera_path(camera_path=[{**FRAME, "fov": 180}]), "fov must be between"),
        (camera_path(camera_path=[{**FRAME, "fov": "wide"}]), "fov is not a positive"),
        (camera_path(render_width=1e6), "width must be"),
        (camera_path(render_width=60000, render_height=60000), "GiB of memory"),
        (camera_path(fps=0), "fps is not a positive"),
        ({"frames": []}, 'a list "frames"'),
        ([], 'a list "frames"'),
    ],
)
def test_other_paths_are_refused_by_name(content, words, tmp_path):
    path = tmp_path / "camera_path.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words) as refused:
        read_path(path, CAMERA)
    assert str(path) in str(refused.value)


def test_a_film_has_every_picture(tmp_path, caplog):
    """Odd sizes are filled up to even ones, where ffmpeg would stretch them, with a word."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    ball = solid((0, 0, 0, 0.6), centre=(0.0, 0.0, 0.0))
    camera = Camera(61, 41, 50.0, 50.0, 30.5, 20.5)
    poses = np.stack([look_at([6 * np.sin(a), -6 * np.cos(a), 1]) for a in (0, 1, 2, 3)])
    shown = list(pictures(ball.viewer, ball.model, CameraPath(poses, [camera] * 4)))
    path = save_mp4(tmp_path / "a.mp4", shown, 5)
    frames = ffmpeg.read_frames(str(path))
    about = next(frames)
    assert about["size"] == (62, 42) and about["fps"] == 5
    read = [np.frombuffer(frame, np.uint8).reshape(42, 62, 3) / 255 for frame in frames]
    assert len(read) == 4 and not caplog.records
    assert np.abs(read[2][:41, :61] - shown[2]).mean() < 0.03


# --- the app


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run of fit_views on a painted ball."""
    pytest.importorskip("tensorboardX")
    folder = tmp_path_factory.mktemp("fitted")
    ball = trimesh.creation.icosphere(subdivisions=4)
    ball.visual.vertex_colors = np.round(255 * (0.5 + 0.45 * np.asarray(ball.vertices)))
    make_scene(folder / "scene", ball, size=48, train=24, test=4)
    config = fit_views.Config(
        scene=folder / "scene",
        out=folder / "run",
        log="tensorboard",
        box=1.3,
        views=ViewsConfig(cells=32, samples=96),
        train=TRAIN,
        field=FIELD,
    )
    fit_views.main(config)
    return folder


def arguments(monkeypatch, *values):
    monkeypatch.setattr(sys, "argv", ["export.py", *map(str, values)])


def run(monkeypatch, *values):
    arguments(monkeypatch, *values)
    cli.run(export.Config, export.main)


def test_the_mesh_has_the_scale_and_the_colours_of_the_views(fitted, tmp_path, monkeypatch, capsys):
    glb = tmp_path / "new" / "ball.glb"
    run(monkeypatch, fitted / "run", "--to", glb, "--resolution", 64, "--watertight")
    assert "surface at a density of" in capsys.readouterr().out
    mesh = trimesh.load(glb, force="mesh", process=False)
    assert mesh.is_watertight
    assert mesh.extents == pytest.approx([2.0] * 3, rel=0.01)
    points = np.asarray(mesh.vertices)[:, [0, 2, 1]] * [1, -1, 1]
    normals = np.asarray(mesh.vertex_normals)[:, [0, 2, 1]] * [1, -1, 1]
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    skin = np.linalg.norm(points, axis=1) > 0.9  # the rest is within, and nobody sees it
    views = load_views(fitted / "scene", "train")
    errors = []
    for n, pose in enumerate(views.poses):
        away = points - pose[:3, 3]
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        column, row = views.camera.project((points - pose[:3, 3]) @ pose[:3, :3]).T.astype(int)
        seen = skin & ((away * normals).sum(1) < -0.3) & (views.pixels[n][row, column, 3] == 255)
        shown = views.pixels[n][row, column, :3] / 255
        errors.append(np.abs(colours - shown)[seen].mean())
    assert np.mean(errors) < 0.05, errors


def test_every_kind_of_file_is_written(fitted, tmp_path, monkeypatch, capsys):
    names = ["a.glb", "b.ply", "points.ply", "c.npz", "d.mp4", "e.gif"]
    flags = ["--resolution", 24, "--texture", 64, "--points", 300, "--seconds", 0.2, "--fps", 10]
    run(
        monkeypatch,
        fitted / "run" / "model.safetensors",
        "--to",
        *(tmp_path / n for n in names),
        *flags,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    said = capsys.readouterr().out
    assert "300 points" in said and "2 pictures, 10 in a second" in said
    assert trimesh.load(tmp_path / "b.ply").visual.kind == "vertex"
    assert Image.open(tmp_path / "e.gif").n_frames == 2


def test_without_names_a_mesh_joins_the_run(fitted, monkeypatch):
    run(monkeypatch, fitted / "run", "--resolution", 16)
    assert trimesh.load(fitted / "run" / "mesh.glb", force="mesh").visual.kind == "vertex"


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--to", "a.stl"], "one of .glb, .ply, .npz, .mp4, .gif"),
        (["--to", "a.ply", "--level", "1e9"], "no surface at a density of 1e+09"),
        (["--to", "a.ply", "--texture", "64"], "--texture is of a GLB"),
        (["--to", "a.glb", "--path", "p.json"], "--path is of a film"),
        (["--to", "a.mp4", "--path", "p.json"], "p.json: no such file"),
        (["--to", "file/a.glb"], "file"),
        (["--to", "folder.glb"], "folder.glb is a folder"),
    ],
)
def test_what_cannot_be_is_one_line(flags, words, fitted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.glb").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, fitted / "run", "--resolution", 16, *flags)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert stop.value.code == 2 and len(said) == 1 and words in said[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_of_a_picture_is_no_scene(tmp_path, monkeypatch, capsys):
    checkpoint.save(tmp_path / "model.safetensors", {"w": np.zeros(2)}, {"width": 3, "height": 2})
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SystemExit) as stop:
            run(monkeypatch, place)
        assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "not a model of fit_views" in said and "no such file" in said
    assert not (tmp_path / "mesh.glb").exists()


def test_a_film_that_breaks_leaves_nothing(fitted, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Viewer, "picture", broken)
    with pytest.raises(SystemExit):
        run(monkeypatch, fitted / "run", "--to", tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_fit_views_renders_along_a_camera_path(fitted, tmp_path, capsys):
    path = tmp_path / "camera_path.json"
    content = camera_path(render_width=20, render_height=10)
    places = ([0, -3, 1], [3, 0, 1], [0, 3, 1])  # a GIF joins pictures that are alike
    content["camera_path"] = [
        {**FRAME, "camera_to_world": look_at(p).ravel().tolist()} for p in places
    ]
    path.write_text(json.dumps(content))
    model = fitted / "run" / "model.safetensors"
    paths = fit_views.main(fit_views.Config(from_=model, path=path, out=tmp_path / "out"))
    assert len(paths) == 4
    assert Image.open(paths[0]).size == (20, 10)
    assert Image.open(tmp_path / "out" / "path.gif").info["duration"] == 160  # hundredths
    assert load_viewer(model)[0].camera.width == 48  # that of the pictures is another


# --- colours of surfaces, scalars of training


def test_a_fitted_surface_has_the_colours_of_its_mesh(tmp_path, capsys):
    ball = trimesh.creation.icosphere(subdivisions=2, radius=7.0)
    ball.apply_translation([100, 0, 0])
    ball.visual.vertex_colors = np.where(ball.vertices[:, 2:] > 0, 250, 10) * np.ones((1, 3), int)
    ball.export(tmp_path / "ball.ply")
    mesh = load_mesh(tmp_path / "ball.ply")
    near = mesh.colours(np.array([[100, 0, 9.0], [100, 0, -5]]))
    assert near == pytest.approx(np.array([[250] * 3, [10] * 3]) / 255)
    ball.visual = trimesh.visual.ColorVisuals()
    ball.export(tmp_path / "plain.ply")
    assert load_mesh(tmp_path / "plain.ply").colours(near) is None
    config = fit_sdf.Config(
        mesh=tmp_path / "ball.ply",
        out=tmp_path / "out",
        log="tensorboard",
        resolution=24,
        sdf=fit_sdf.SDFConfig(pool=2**12),
        train=TrainConfig(steps=60, batch=2**12, eval_every=60),
        field=FIELD,
    )
    fit_sdf.main(config)
    fitted = trimesh.load(tmp_path / "out" / "mesh.ply", process=False)
    colours = np.asarray(fitted.visual.vertex_colors)[:, 0]
    assert (colours[fitted.vertices[:, 2] > 2] == 250).all()
    assert (colours[fitted.vertices[:, 2] < -2] == 10).all()
    assert [step for step, _ in scalars(tmp_path / "out" / "tensorboard")["evaluation/iou"]] == [60]


def scalars(folder):
    """{name: [(step, value), ...]} of the one event file of a folder (TFRecord: length, its
    checksum, an Event, its checksum), and under "" where a session began."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    data = path.read_bytes()
    found = {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        if event.HasField("session_log"):
            found[""] = [(event.step, "START" if event.session_log.status == 1 else "?")]
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_has_the_scalars_of_a_run(tmp_path, capsys):
    pytest.importorskip("tensorboardX")
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(tmp_path / "a.png")
    config = fit_image.Config(
        image=tmp_path / "a.png",
        out=tmp_path / "out",
        log="tensorboard",
        train=TrainConfig(steps=45, batch=50, eval_every=20),
        field=FIELD,
    )
    for _ in range(2):  # the second time, what the first left is gone
        fit_image.main(config)
    found = scalars(tmp_path / "out" / "tensorboard")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").open()]
    assert [line["step"] for line in lines] == [20, 40, 45]
    assert found["evaluation/psnr"] == [
        (line["step"], pytest.approx(line["psnr"], rel=1e-5)) for line in lines
    ]
    assert [step for step, _ in found["train/loss"]] == [1, 21, 41]


def test_tensorboard_has_the_scalars_of_a_scene(fitted):
    found = scalars(fitted / "run" / "tensorboard")
    assert {"train/loss", "evaluation/psnr", "evaluation/ssim"} <= found.keys()


def test_what_an_interrupted_run_wrote_after_its_checkpoint_is_hidden(tmp_path):
    """TensorBoard leaves out what has a later step than a new session's first."""
    pytest.importorskip("tensorboardX")
    TensorBoard(tmp_path, anew=True)(30, {"train/loss": 1.0})
    (first,) = tmp_path.iterdir()
    first.rename(first.with_name("events.out.tfevents.0"))
    TensorBoard(tmp_path, anew=False)(21, {"train/loss": 2.0})
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "events.out.tfevents.0").unlink()
    assert scalars(tmp_path) == {"": [(21, "START")], "train/loss": [(21, 2.0)]}


def test_tensorboard_needs_its_package_and_a_training(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match="pip install tensorboardX"):
        TensorBoard(tmp_path, anew=True)
    with pytest.raises(ArgumentError, match="log"):
        fit_image.Config(log="tensorboard", solver="cg")
