"""Pictures of light, and pictures that say more than their pixels: read rightly, or refused."""

import io
import json
import struct
import sys

from jgrid import checkpoint, cli
from jgrid.image.files import load_image
from jgrid.image.light import MU, Tone, save_tiff, tone_of
from jgrid.image.metrics import psnr
from jgrid.image.task import load_tone
from jgrid.scene.files import load_views
from jgrid.scene.made import knot, make_scene

import fit_image
import numpy as np
import pytest
import tifffile
from conftest import DEVICE
from habits_pictures import ADOBE, EIGHT, GREY, RGB, SIXTEEN, exr, hdr, png, profile, saved, tiff
from PIL import Image, ImageCms

BRIGHT = (RGB * 6).astype(np.float32)
FEW = ["--device", DEVICE, "--train.steps", "3", "grid:dense", "--field.finest", "8"]


@pytest.fixture
def oiio():
    return pytest.importorskip("OpenImageIO", reason="jgrid[hdr] is not installed")


def written(tmp_path, content, name="a.png"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


# --- light


@pytest.mark.parametrize(
    "content, name, tolerance",
    [
        (exr(BRIGHT), "a.exr", 1e-6),
        (exr(BRIGHT, half=True), "a.exr", 4e-3),
        (exr(BRIGHT), "a.png", 1e-6),
        (hdr(BRIGHT), "a.hdr", 0.03),
    ],
    ids=["float", "half", "another ending", "Radiance"],
)
def test_light_is_read_as_it_is_stored(oiio, tmp_path, content, name, tolerance):
    pixels = load_image(written(tmp_path, content, name))
    assert pixels.dtype == np.float32 and pixels.max() > 5
    np.testing.assert_allclose(pixels, BRIGHT, atol=tolerance)


def stored(oiio, path, pixels, names, **places):
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], "float")
    spec.channelnames = names
    for name, value in places.items():
        setattr(spec, name, value)
    out = oiio.ImageOutput.create(str(path))
    assert out.open(str(path), spec) and out.write_image(pixels.astype(np.float32))
    out.close()
    return path


def test_alpha_of_light_is_straight_and_other_channels_are_left(oiio, tmp_path):
    alpha = np.linspace(0, 1, EIGHT.shape[1]) * np.ones(EIGHT.shape[:2])
    depth = np.full((*alpha.shape, 1), 9.0)
    given = np.concatenate([BRIGHT * alpha[..., None], alpha[..., None], depth], 2)
    path = stored(oiio, tmp_path / "a.exr", given, ("R", "G", "B", "A", "Z"))
    pixels = load_image(path)
    assert pixels.shape[2] == 4
    np.testing.assert_allclose(pixels[..., 3], alpha, atol=1e-6)
    np.testing.assert_allclose(pixels[:, 1:, :3], BRIGHT[:, 1:], rtol=1e-5)
    assert (pixels[:, 0, :3] == 0).all()
    grey = load_image(stored(oiio, tmp_path / "g.exr", BRIGHT[..., :1], ("Y",)))
    np.testing.assert_array_equal(grey, BRIGHT[..., :1])
    with pytest.raises(ValueError, match="channels N.x, N.y, wanted R, G, B"):
        load_image(stored(oiio, tmp_path / "n.exr", BRIGHT[..., :2], ("N.x", "N.y")))


def test_light_fills_its_display_window(oiio, tmp_path):
    """A crop of a render, and one with more than is shown."""
    h, w = BRIGHT.shape[:2]
    window = {"x": 2, "y": 1, "full_width": w + 4, "full_height": h + 3}
    pixels = load_image(stored(oiio, tmp_path / "a.exr", BRIGHT, ("R", "G", "B"), **window))
    expected = np.zeros((h + 3, w + 4, 3), np.float32)
    expected[1 : h + 1, 2 : w + 2] = BRIGHT
    np.testing.assert_array_equal(pixels, expected)
    window = {"x": -2, "y": -1, "full_width": w - 5, "full_height": h - 3}
    pixels = load_image(stored(oiio, tmp_path / "a.exr", BRIGHT, ("R", "G", "B"), **window))
    np.testing.assert_array_equal(pixels, BRIGHT[1 : h - 2, 2 : w - 3])


def test_without_the_package_its_name_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenImageIO", None)
    for content, kind in ((exr(BRIGHT), "OpenEXR"), (hdr(BRIGHT), "Radiance HDR")):
        with pytest.raises(ValueError, match=rf"a.png: {kind}, which.*jgrid\[hdr\]"):
            load_image(written(tmp_path, content))


def test_damaged_light_is_refused(oiio, tmp_path):
    for content in (exr(BRIGHT)[:200], exr(BRIGHT)[:20], hdr(BRIGHT)[:60]):
        with pytest.raises(ValueError, match="a.exr: damaged"):
            load_image(written(tmp_path, content, "a.exr"))


def test_float_tiff_is_light_but_for_levels(tmp_path):
    for values in (BRIGHT, BRIGHT[..., 0], np.moveaxis(BRIGHT, 2, 0)):
        apart = {"planarconfig": "separate"} if len(values) == 3 else {}
        kind = "rgb" if values.ndim == 3 else "minisblack"
        content = tiff(values, photometric=kind, **apart)
        expected = np.moveaxis(values, 0, 2) if apart else np.atleast_3d(values)
        np.testing.assert_array_equal(load_image(written(tmp_path, content, "a.tif")), expected)
    for values, kind in ((EIGHT, "rgb"), (GREY, "minisblack")):
        content = tiff(values.astype(np.float32), photometric=kind)
        with pytest.raises(ValueError, match="all whole: which of them is white"):
            load_image(written(tmp_path, content, "a.tif"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_saved_light_comes_back(tmp_path, channels):
    light = np.random.default_rng(0).uniform(0, 9, (4, 5, channels)).astype(np.float32)
    light[..., -1] /= 9  # alpha, where there is one
    np.testing.assert_array_equal(load_image(save_tiff(tmp_path / "a.tif", light)), light)


def test_a_tone_is_its_formula_and_goes_back():
    light = np.random.default_rng(0).uniform(0, 40, (4, 5, 4)).astype(np.float32)
    light[..., 3] /= 40
    light[0, 0, 0] = 40
    tone = tone_of(light)
    assert tone == Tone(40.0)
    shown = tone.encode(light)
    expected = np.log(1 + MU * light[..., :3] / 40) / np.log(1 + MU)
    np.testing.assert_allclose(shown[..., :3], expected, atol=1e-6)
    assert shown.max() == 1 and (shown[..., 3] == light[..., 3]).all()
    np.testing.assert_allclose(tone.decode(shown), light, rtol=1e-4)
    assert tone.decode(shown + 1).max() <= 40.001
    assert (tone.encode(-light)[..., :3] == 0).all()
    assert tone_of(light / 40) is None and tone_of(light / 40 - 0.1) == Tone(1.0)


def test_a_picture_of_light_is_fitted_as_it_is_shown(tmp_path, capsys):
    path = save_tiff(tmp_path / "sun.tif", BRIGHT)
    out = tmp_path / "out"
    paths = fit_image.main(
        cli.parse(fit_image.Config, ["--image", str(path), "--out", str(out), *FEW])
    )
    top = float(BRIGHT.max())
    assert "PSNR" in capsys.readouterr().err and out / "prediction.tif" in paths
    result = json.loads((out / "result.json").read_text())
    assert result["tone"] == {"top": top, "shown": "log(1 + 5000 v / top) / log(5001)"}
    light = load_image(out / "prediction.tif")
    assert result["psnr"] == pytest.approx(
        psnr(Tone(top).encode(BRIGHT), Tone(top).encode(light)), abs=1e-3
    )
    model = out / "model.safetensors"
    assert load_tone(model) == Tone(top)
    again = tmp_path / "again"
    fit_image.main(cli.parse(fit_image.Config, ["--from", str(model), "--out", str(again)]))
    np.testing.assert_array_equal(load_image(again / "prediction.tif"), light)
    tensors, saved_config = checkpoint.read(model)
    checkpoint.save(model, tensors, {**saved_config, "tone": {"top": -1.0}})
    with pytest.raises(ValueError, match="top"):
        load_tone(model)


def test_a_scene_has_no_light_beyond_white(tmp_path):
    make_scene(tmp_path, knot(40, 8), size=12, train=2, test=1)
    save_tiff(tmp_path / "train" / "000.tif", np.full((12, 12, 3), 1.5))
    text = (tmp_path / "transforms_train.json").read_text()
    first = json.loads(text)["frames"][0]["file_path"]
    named = text.replace(f'"{first}"', '"train/000.tif"')
    (tmp_path / "transforms_train.json").write_text(named)
    with pytest.raises(ValueError, match="000.tif: values from 1.5 to 1.5"):
        load_views(tmp_path, "train")


# --- what a picture says besides its pixels


@pytest.mark.parametrize(
    "values, colour, depth",
    [(EIGHT, 2, 8), (GREY, 0, 8), (SIXTEEN, 2, 16), (SIXTEEN[..., 0], 0, 16)],
)
def test_a_colour_key_is_alpha(tmp_path, values, colour, depth):
    deep = values if values.ndim == 3 else values[..., None]
    key = deep[3, 4]
    chunk = struct.pack(f">{len(key)}H", *(int(v) for v in key))
    pixels = load_image(written(tmp_path, png(values, colour, depth, [(b"tRNS", chunk)])))
    visible = (deep != key).any(-1)
    assert not visible.all() and pixels.shape[2] == len(key) + 1
    np.testing.assert_array_equal(pixels[..., -1], visible)
    np.testing.assert_allclose(pixels[..., :-1], deep / (2**depth - 1), atol=1e-6)


def test_few_bits_may_be_the_key(tmp_path):
    bits = np.packbits(GREY > 120, axis=1)
    pixels = load_image(written(tmp_path, png(bits, 0, 1, [(b"tRNS", struct.pack(">H", 1))])))
    np.testing.assert_array_equal(pixels, np.dstack([GREY > 120, GREY <= 120]))
    four = GREY // 16
    nibbles = four[:, 0::2] << 4 | four[:, 1::2]
    pixels = load_image(written(tmp_path, png(nibbles, 0, 4, [(b"tRNS", struct.pack(">H", 5))])))
    assert (four == 5).any()
    np.testing.assert_allclose(pixels, np.dstack([four / 15, four != 5]), atol=1e-6)


def test_colours_of_a_profile_become_srgb(tmp_path, recwarn):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for own in (srgb, None):
        options = {"icc_profile": own} if own else {}
        np.testing.assert_allclose(
            load_image(written(tmp_path, saved(EIGHT, "PNG", **options))), RGB, atol=1e-6
        )
    wide = load_image(written(tmp_path, saved(EIGHT, "PNG", icc_profile=profile(ADOBE, 2.2))))
    assert 0.05 < np.abs(wide - RGB).max()
    assert not recwarn
    damaged = written(tmp_path, saved(EIGHT, "PNG", icc_profile=b"no profile" * 20))
    with pytest.warns(UserWarning, match="a.png: its colour profile is damaged"):
        np.testing.assert_allclose(load_image(damaged), RGB, atol=1e-6)


def test_values_of_another_gamma_become_srgb(tmp_path):
    linear = np.where(RGB < 0.04045, RGB / 12.92, ((RGB + 0.055) / 1.055) ** 2.4)
    stored_values = np.round(65535 * linear).astype(np.uint16)

    def of(gamma):
        chunk = (b"gAMA", struct.pack(">I", gamma))
        return load_image(written(tmp_path, png(stored_values, 2, 16, [chunk])))

    np.testing.assert_allclose(of(100000), RGB, atol=2e-3)
    np.testing.assert_allclose(of(45455), linear, atol=2e-5)


def test_a_page_of_a_tiff_that_is_a_thumbnail_is_passed_over(tmp_path):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(EIGHT[::4, ::4], photometric="rgb", subfiletype=1)
        writer.write(EIGHT, photometric="rgb")
    assert load_image(written(tmp_path, file.getvalue(), "a.tif")).shape == RGB.shape


def test_white_may_be_0(tmp_path):
    for values, top in ((GREY, 255), (GREY.astype(np.uint16) * 257, 65535)):
        content = tiff((top - values).astype(values.dtype), photometric="miniswhite")
        pixels = load_image(written(tmp_path, content, "a.tif"))
        np.testing.assert_allclose(pixels[..., 0], values / top, atol=1e-6)


def test_a_ppm_of_16_bits_is_warned_of(tmp_path):
    content = b"P6\n16 12\n65535\n" + SIXTEEN.astype(">u2").tobytes()
    with pytest.warns(UserWarning, match="of its 16 bits Pillow reads 8"):
        np.testing.assert_allclose(
            load_image(written(tmp_path, content, "a.ppm")), SIXTEEN / 65535, atol=1 / 200
        )


@pytest.mark.parametrize(
    "content, name, words",
    [
        (tiff(EIGHT, photometric="cielab"), "a.tif", "CIELab"),
        (tiff(GREY.astype(np.int16)), "a.tif", "signed integers"),
        (tiff(GREY, photometric="cfa"), "a.dng", "a raw picture of a camera"),
        (b"PF\n1 1\n-1.0\n" + bytes(12), "a.pfm", "a colour PFM"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "a.heic", "HEIC"),
    ],
    ids=["Lab", "signed", "raw", "PFM", "HEIC"],
)
def test_what_cannot_be_read_rightly_is_named(tmp_path, content, name, words):
    with pytest.raises(ValueError, match=f"{name}: .*{words}"):
        load_image(written(tmp_path, content, name))


def test_a_picture_of_many_pixels_is_read(tmp_path):
    """More than Pillow takes for a bomb."""
    Image.new("1", (14000, 13000), 1).save(tmp_path / "a.png")
    most = Image.MAX_IMAGE_PIXELS
    pixels = load_image(tmp_path / "a.png")
    assert (
        pixels.shape == (13000, 14000, 1) and pixels.min() == 1 and Image.MAX_IMAGE_PIXELS == most
    )
