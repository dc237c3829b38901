"""Pictures of captures: shrunk while they are read, in bytes as in floats."""

import json
import zlib

from jgrid.image.files import as_bytes, load_image, load_rgba
from jgrid.scene.camera import sphere_poses
from jgrid.scene.files import load_views

import fit_views
import numpy as np
import pytest
from PIL import Image

WIDTH = 15
HEIGHT = 10
FOCAL = 20.0
BY = 4
SMALL = (HEIGHT // BY, WIDTH // BY)


@pytest.fixture
def scene(tmp_path):
    """Pictures with half-transparent parts, a mask of one and depths of another."""
    rng = np.random.default_rng(0)
    frames = []
    for n, pose in enumerate(sphere_poses(3, 3.0)):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
        pixels[: HEIGHT // 2, :, 3] = 255
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        frames.append({"file_path": f"{n}.png", "transform_matrix": pose.tolist()})
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[1, 5] = 0
    mask[:, -1] = 0  # beyond the last whole block
    Image.fromarray(mask).save(tmp_path / "mask.png")
    frames[1]["mask_path"] = "mask.png"
    np.save(tmp_path / "depth.npy", 1 + np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(
        HEIGHT, WIDTH))  # fmt: skip
    frames[2]["depth_file_path"] = "depth.npy"
    intrinsics = {"fl_x": FOCAL, "w": WIDTH, "h": HEIGHT, "cx": 7.0, "k1": 0.02}
    names = {"train_filenames": ["0.png", "1.png", "2.png"], "test_filenames": ["0.png"]}
    (tmp_path / "transforms.json").write_text(json.dumps({**intrinsics, **names, "frames": frames}))
    return tmp_path


def load(scene, **options):
    with pytest.warns(UserWarning):
        return load_views(scene, "train", depths=True, **options)


def blocks(values):
    """Values (H, W, ...) by blocks, (H / BY, W / BY, BY * BY, ...)."""
    height, width = SMALL
    whole = values[: height * BY, : width * BY]
    apart = whole.reshape(height, BY, width, BY, *values.shape[2:])
    return np.moveaxis(apart, 1, 2).reshape(height, width, BY * BY, *values.shape[2:])


def test_shrunk_pixels_are_means_by_their_alpha(scene):
    whole = load(scene)
    small = load(scene, shrink=BY)
    assert small.pixels.shape == (3, *SMALL, 4)
    for big, little in zip(whole.pixels / 255, small.pixels / 255):
        alpha = blocks(big[..., 3]).mean(2)
        colour = (blocks(big[..., :3]) * blocks(big[..., 3:])).mean(2)
        np.testing.assert_allclose(little[..., 3], alpha, atol=0.6 / 255)
        # Pillow rounds the products with alpha, and what it divides them by
        np.testing.assert_allclose(little[..., :3] * little[..., 3:], colour, atol=1.6 / 255)


def test_a_shrunk_camera_looks_through_the_middles_of_the_blocks(scene):
    whole = load(scene).camera
    small = load(scene, shrink=BY).camera
    row, column = np.indices(SMALL)
    middles = [(index + 0.5) * BY for index in (column, row)]
    seen = small.directions(column + 0.5, row + 0.5)
    np.testing.assert_allclose(seen, whole.directions(*middles), atol=1e-6)
    assert (small.height, small.width) == SMALL


def test_a_shrunk_pixel_counts_where_all_its_pixels_do(scene):
    kept = load(scene, shrink=BY).kept
    expected = np.ones((3, *SMALL), bool)
    expected[1, 0, 5 // BY] = False
    np.testing.assert_array_equal(kept, expected)


def test_a_shrunk_depth_is_the_one_in_the_middle(scene):
    whole = load(scene).depths[2]
    small = load(scene, shrink=BY).depths
    np.testing.assert_array_equal(small[2], blocks(whole)[:, :, BY // 2 * BY + BY // 2])
    assert not small[:2].any()


def test_pictures_smaller_than_a_block_are_refused(scene):
    with pytest.raises(ValueError, match="0.png: 15 x 10 pixels, too few"):
        load_views(scene, "train", shrink=11)


def test_the_app_shrinks_both_splits(scene, capsys):
    config = fit_views.Config(scene=scene, shrink=2)
    with pytest.warns(UserWarning):
        train, test = fit_views.both(scene, config)
    assert {views.size for views in (train, test)} == {f"{WIDTH // 2} x {HEIGHT // 2}"}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_bytes_are_the_values_rounded(tmp_path, mode):
    rng = np.random.default_rng(1)
    colours = Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8))
    picture = Image.fromarray(rng.integers(0, 2**16, (HEIGHT, WIDTH), np.uint16))
    picture = picture if mode == "I;16" else colours.convert(mode)
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.save(file)
    np.testing.assert_array_equal(load_rgba(file), as_bytes(load_image(file), file))


@pytest.mark.parametrize("options", [{"transparency": (9, 8, 7)}, {"gamma": True}, {}])
def test_bytes_of_what_stands_for_another_colour(tmp_path, options):
    pixels = np.full((4, 4, 3), (9, 8, 7), np.uint8)
    pixels[0] = 200
    file = tmp_path / "a.png"
    gamma = options.pop("gamma", False)
    Image.fromarray(pixels).save(file, **options)
    if gamma:  # a chunk gAMA of 1 / 1.8, before the pixels
        raw = file.read_bytes()
        chunk = b"\0\0\0\4gAMA" + (55556).to_bytes(4, "big")
        chunk += zlib.crc32(chunk[4:]).to_bytes(4, "big")
        file.write_bytes(raw[:33] + chunk + raw[33:])
    found = load_rgba(file)
    np.testing.assert_array_equal(found, as_bytes(load_image(file), file))
    assert (found[1:, :, 3] == (0 if options else 255)).all()
    assert (found[0, 0, 0] == 200) != gamma
