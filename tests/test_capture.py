"""From photographs and films to scenes: poses against the true ones, frames against the sharpest,
and what is said where there are none."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time

from jgrid import checkpoint, cli
from jgrid.scene import footage, motion
from jgrid.scene.camera import Camera, circle_poses
from jgrid.scene.files import load_views
from jgrid.scene.footage import copy_photos, sharpest_frames
from jgrid.scene.made import MeshScene
from jgrid.scene.motion import Motion, film_pairs, find_poses
from jgrid.scene.path import save_mp4

import capture
import numpy as np
import psutil
import pytest
import trimesh
from conftest import REPOSITORY
from PIL import Image, ImageFilter

N = 24
SIZE = 240
RADIUS = 3.2  # of the ring that the cameras are on
pycolmap_only = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None,
    reason="pycolmap is not installed: jgrid[capture]",
)


@pytest.fixture(scope="module")
def ring():
    """(pictures (N, H, W, 3), poses): a bumpy ball with a colour at each vertex, which SIFT knows
    again, seen from all around."""
    rng = np.random.default_rng(0)
    ball = trimesh.creation.icosphere(subdivisions=5)
    bumps = np.sin(ball.vertices @ rng.normal(0, 3, (3, 6))).sum(1, keepdims=True)
    ball.vertices = ball.vertices * (1 + bumps / 12)
    colours = rng.integers(0, 256, (len(ball.vertices), 3)).astype(np.uint8)
    ball.visual.vertex_colors = colours
    scene = MeshScene(ball)
    focal = SIZE / 2 / np.tan(0.35)
    camera = Camera(SIZE, SIZE, focal, focal, SIZE / 2, SIZE / 2)
    poses = circle_poses(N, RADIUS, 0.4)
    return np.stack([scene.render(camera, pose)[..., :3] for pose in poses]), poses


def write(folder, pictures, ending="png"):
    folder.mkdir()
    for n, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"my photo {n:02}.{ending}")
    return folder


def similarity(a, b):
    """Umeyama's scale c, turn R and shift t, with which c R a + t is nearest to b, points
    (N, 3)."""
    middles = a.mean(0), b.mean(0)
    u, s, v = np.linalg.svd((b - middles[1]).T @ (a - middles[0]))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ v))])
    turn = u * sign @ v
    scale = (s * sign).sum() / ((a - middles[0]) ** 2).sum()
    return scale, turn, middles[1] - scale * turn @ middles[0]


def read(scene):
    """(names, poses) of a scene's pictures, sorted by their names."""
    views = [load_views(scene, split) for split in ("train", "test")]
    names = [name for part in views for name in part.names]
    order = np.argsort(names)
    return [names[n] for n in order], np.concatenate([part.poses for part in views])[order]


def is_clean(folder, *there):
    """Whether nothing is in a folder but what was."""
    return sorted(os.listdir(folder)) == sorted(there)


def refusal(capfd, **flags):
    """The one line with which the app ends."""
    with pytest.raises(SystemExit) as ended:
        capture.main(capture.Config(**flags))
    assert ended.value.code == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


# --- poses


@pycolmap_only
def test_poses_of_photographs_are_the_true_ones(ring, tmp_path, monkeypatch, capfd):
    """Up to a similarity. One more picture shows something else, and is named."""
    monkeypatch.chdir(tmp_path)
    pictures, poses = ring
    other = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    write(tmp_path / "ring", [*pictures, other])
    result = capture.main(capture.Config(photos=tmp_path / "ring"))
    said = capfd.readouterr().out
    assert len(result.posed) == N and result.unposed == [f"my photo {N}.png"]
    assert f"{N} of {N + 1} pictures have a pose, but not 'my photo {N}.png'" in said
    assert result.error < 0.5 and result.points > 500
    assert len(result.cameras) == 1 and "SIMPLE_RADIAL of 240 x 240" in said
    assert is_clean(tmp_path / "scenes" / "ring", "images", "sparse")
    names, found = read(tmp_path / "scenes" / "ring")
    assert names == result.posed
    scale, turn, shift = similarity(found[:, :3, 3], poses[:, :3, 3])
    places = scale * found[:, :3, 3] @ turn.T + shift
    assert np.linalg.norm(places - poses[:, :3, 3], axis=1).max() < 0.015 * RADIUS
    np.testing.assert_allclose(turn @ found[:, :3, :3], poses[:, :3, :3], atol=0.02)


def test_a_film_is_matched_near_and_where_the_camera_comes_back():
    names = [f"frame_{n:04}.jpg" for n in range(1, 41)]
    pairs = [(names.index(a), names.index(b)) for a, b in film_pairs(names)]
    assert all(a < b for a, b in pairs) and len(set(pairs)) == len(pairs)
    assert {(a, b) for a in range(40) for b in range(a + 1, min(40, a + 11))} <= set(pairs)
    assert (0, 35) in pairs and (0, 36) not in pairs
    assert len(pairs) < 40 * 39 / 2


def test_a_report_is_short():
    names = [f"{n}.jpg" for n in range(60)]
    said = str(Motion(names[:30], names[30:], 0.512, 1234, ["PINHOLE"] * 9))
    assert "30 of 60" in said and "'49.jpg' and 10 more" in said and "'50.jpg'" not in said
    assert "0.51 px, 1,234 points" in said and said.endswith("and 6 more cameras")


# --- photographs


def test_photographs_are_shrunk_and_share_cameras(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)

    def photo(name, shape, focal=None, turned=None):
        exif = Image.Exif()
        if focal:
            exif[0x8769] = {0xA405: focal}
        if turned:
            exif[0x0112] = turned
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(pixels).save(photos / name, exif=exif)
        return pixels

    photo("a.jpg", (300, 400, 3), 26)
    photo("b.jpg", (300, 400, 3), 26, turned=6)
    photo("c.jpg", (300, 400, 3), 13)
    photo("d.jpg", (400, 300, 3), 26)
    small = photo("e.png", (30, 40, 4))
    grey = photo("f.tif", (30, 40))
    (photos / "g.heic").write_bytes(b"what cameras of phones write")
    with pytest.warns(UserWarning, match="photos: left out: 'g.heic'$"):
        groups = copy_photos(photos, tmp_path / "images", 200, each=False)
    assert groups == [["a.jpg", "b.jpg"], ["c.jpg"], ["d.jpg"], ["e.png", "f.tif.png"]]
    opened = {path.name: Image.open(path) for path in (tmp_path / "images").iterdir()}
    assert opened["a.jpg"].size == (200, 150) and opened["d.jpg"].size == (150, 200)
    # as it is stored: the sensor is not turned; its focal length is what COLMAP begins with
    assert opened["b.jpg"].size == (200, 150) and 0x0112 not in opened["b.jpg"].getexif()
    assert opened["b.jpg"].getexif().get_ifd(0x8769) == {0xA405: 26}
    np.testing.assert_array_equal(opened["e.png"], small)
    np.testing.assert_array_equal(opened["f.tif.png"], grey)
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "images").mkdir()
    (photos / "g.heic").unlink()
    assert len(copy_photos(photos, tmp_path / "images", 200, each=True)) == 6


# --- films


@pytest.fixture
def film(tmp_path):
    """A film of 30 frames, whose grey left side says which it is; every fifth, from the fourth on,
    is sharp."""
    texture = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    blurred = Image.fromarray(texture).filter(ImageFilter.GaussianBlur(2))
    frames = []
    for n in range(30):
        pixels = np.array(texture if n % 5 == 3 else blurred) / 255
        pixels[:, :30] = (n + 0.5) / 30
        frames.append(pixels)
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed: jgrid[capture]")
    return save_mp4(tmp_path / "film.mp4", frames, 30.0)


def number(path):
    """Of a frame of the film."""
    grey = np.asarray(Image.open(path).convert("L").crop((2, 0, 12, 30)))
    return int(grey.mean() / 255 * 30)


def test_of_each_stretch_of_a_film_the_sharpest_frame_is_taken(film, tmp_path):
    names = sharpest_frames(film, tmp_path, 1600, 6)
    assert names == [f"frame_000{n}.jpg" for n in range(1, 7)]
    assert [number(tmp_path / name) for name in names] == [3, 8, 13, 18, 23, 28]
    assert Image.open(tmp_path / names[0]).size == (80, 60)


def test_a_film_of_few_frames_leaves_all_and_shrinks(film, tmp_path, caplog):
    names = sharpest_frames(film, tmp_path, 40, 100)
    assert [number(tmp_path / name) for name in names] == list(range(30))
    assert Image.open(tmp_path / names[0]).size == (40, 30)
    assert not caplog.records


def test_of_a_long_film_not_all_frames_are_looked_at(film, tmp_path, monkeypatch):
    monkeypatch.setattr(footage, "CANDIDATES", 1)
    names = sharpest_frames(film, tmp_path, 1600, 3)
    found = [number(tmp_path / name) for name in names]
    assert len(found) == 3 and all(10 * n <= k < 10 * n + 10 for n, k in enumerate(found)), found
    assert found != [3, 13, 23]


# --- what cannot be


def test_what_is_no_input_is_one_line(ring, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    photos = write(tmp_path / "photos", ring[0][:4])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no film")
    Image.fromarray(ring[0][0]).save(tmp_path / "one.png")
    before = sorted(os.listdir(tmp_path))
    assert "no such folder" in refusal(capfd, photos=tmp_path / "nowhere")
    assert "no pictures (.png, .jpg" in refusal(capfd, photos=tmp_path / "empty")
    assert "no such file" in refusal(capfd, video=tmp_path / "nowhere.mp4")
    assert "no film that ffmpeg can read" in refusal(capfd, video=tmp_path / "text.mp4")
    assert "a film of" in refusal(capfd, video=tmp_path / "one.png")
    assert "no empty folder" in refusal(capfd, photos=photos, out=photos)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    assert "broken.jpg: not a picture" in refusal(capfd, photos=photos, out=tmp_path / "a" / "b")
    assert sorted(os.listdir(tmp_path)) == before and len(os.listdir(photos)) == 5


@pytest.mark.parametrize(
    "flags, words",
    {
        (): "--photos or --video",
        ("--photos", "a", "--video", "b"): "--photos or --video",
        ("--photos", "a", "--frames", "9"): "--frames is of a film",
        ("--video", "a", "--cameras", "one"): "--cameras is of photographs",
        ("--video", "a", "--frames", "2"): "--frames",
    }.items(),
)
def test_flags_that_contradict_are_one_line(flags, words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parse(capture.Config, flags)
    assert ended.value.code == 2 and words in capsys.readouterr().err


@pycolmap_only
def test_pictures_without_poses_are_one_line_and_leave_nothing(tmp_path, capfd, monkeypatch):
    """Nothing in common, nothing to see, and a program that ends otherwise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 100, 100, 3)).astype(np.uint8)
    for name, pictures in (("noise", noise), ("grey", np.full_like(noise, 128))):
        photos = write(tmp_path / name, pictures)
        said = refusal(capfd, photos=photos, out=tmp_path / "deep" / "out")
        assert "none of 4 pictures found a pose: it takes sharp pictures" in said
        assert not (tmp_path / "deep").exists()
    (tmp_path / "program.py").write_text("raise SystemExit('no room')")
    monkeypatch.setattr(motion, "PROGRAM", tmp_path / "program.py")
    with pytest.raises(ValueError, match="COLMAP found no poses: no room"):
        find_poses(tmp_path, [["a.png", "b.png", "c.png"]])
    assert is_clean(tmp_path, "noise", "grey", "program.py")


def test_without_pycolmap_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(ValueError, match=r"pip install 'jgrid\[capture\]'"):
        find_poses(tmp_path, [["a.png", "b.png", "c.png"]])
    with pytest.raises(ValueError, match="from 3 pictures or more, and here are 2"):
        find_poses(tmp_path, [["a.png", "b.png"]])


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "deep/new"):
        with pytest.raises(KeyboardInterrupt), checkpoint.atomic_folder(tmp_path / name) as folder:
            (folder / "a").write_text("a")
            raise KeyboardInterrupt
        assert is_clean(tmp_path, "empty") and is_clean(tmp_path / "empty")
    for name in ("empty", "deep/new"):
        with checkpoint.atomic_folder(tmp_path / name) as folder:
            (folder / "a").write_text("a")
        assert is_clean(tmp_path / name, "a")
        assert (tmp_path / name).stat().st_mode == (tmp_path).stat().st_mode & 0o40777 | 0o055
    assert is_clean(tmp_path, "empty", "deep") and is_clean(tmp_path / "deep", "new")
    with (
        pytest.raises(ValueError, match="no empty folder"),
        checkpoint.atomic_folder(tmp_path / "empty"),
    ):
        pass


@pycolmap_only
@pytest.mark.parametrize("posed", [1, 2])
def test_a_third_of_the_pictures_must_have_a_pose(tmp_path, monkeypatch, posed):
    names = [f"{n}.png" for n in range(6)]
    found = Motion(names[:posed], names[posed:], 0.5, 100, ["PINHOLE"])._asdict()
    program = f"""
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
(folder / "model").mkdir()
(folder / "found.json").write_text(json.dumps({found}))
"""
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(motion, "PROGRAM", tmp_path / "program.py")
    if posed == 2:
        assert find_poses(tmp_path, [names]).unposed == names[2:]
        assert is_clean(tmp_path, "program.py", "sparse")
        return
    with pytest.raises(ValueError, match="^1 of 6 pictures found a pose"):
        find_poses(tmp_path, [names])
    assert is_clean(tmp_path, "program.py")


@pycolmap_only
def test_a_signal_ends_it_and_leaves_nothing(ring, tmp_path):
    write(tmp_path / "ring", np.tile(ring[0], (4, 1, 1, 1)))  # minutes, if it went on
    command = [sys.executable, str(REPOSITORY / "apps" / "capture.py"), "--photos", "ring"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as app:
        while not list(tmp_path.glob("scenes/.ring-*/.motion-*/database.db")):
            assert app.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        app.send_signal(signal.SIGINT)
        out, said = app.communicate(timeout=20)
    left = [" ".join(other.info["cmdline"] or []) for other in psutil.process_iter(["cmdline"])]
    assert not [command for command in left if str(tmp_path) in command]
    assert app.returncode == 128 + signal.SIGINT and not out
    assert [line for line in said.replace("\r", "\n").splitlines() if "error" in line] == [
        "error: interrupted"
    ]
    assert "Traceback" not in said and is_clean(tmp_path, "ring")
