"""Pictures: what is read, what is refused, how pixels are drawn, rendered, measured and written."""

import inspect

from jgrid import memory, picture
from jgrid.field import DecoderConfig, DenseGridConfig, Domain, Field, in_chunks
from jgrid.image import task as image_task
from jgrid.image.files import check_pixels, load_image
from jgrid.image.metrics import psnr, ssim, ssim_gaussian
from jgrid.image.task import ImageTask, pixel_centres, place_nodes, render
from jgrid.image.tiles import in_strips
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

HEIGHT = 5
WIDTH = 8


def levels(channels, top=255, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, top + 1, (HEIGHT, WIDTH, channels)).astype(dtype)


@pytest.mark.parametrize("mode, channels", [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_8_bits(tmp_path, mode, channels):
    values = levels(channels)
    Image.fromarray(values[..., 0] if channels == 1 else values, mode).save(tmp_path / "a.png")
    pixels = load_image(tmp_path / "a.png")
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, values / 255, atol=1e-7)


def test_16_bit_grey(tmp_path):
    values = levels(1, 65535, np.uint16)
    Image.fromarray(values[..., 0]).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", values[..., 0])
    tifffile.imwrite(tmp_path / "big.tif", values[..., 0], byteorder=">")
    for name in ("a.png", "a.tif", "big.tif"):
        np.testing.assert_allclose(load_image(tmp_path / name), values / 65535, atol=1e-7)


def test_palette_with_and_without_transparency(tmp_path):
    index = levels(1, 2)[..., 0]
    palette = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 128]], np.uint8)
    image = Image.fromarray(index, "P")
    image.putpalette(palette.ravel().tolist())
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "holes.png", transparency=1)
    np.testing.assert_allclose(load_image(tmp_path / "opaque.png"), palette[index] / 255, atol=1e-7)
    holes = load_image(tmp_path / "holes.png")
    assert holes.shape == (HEIGHT, WIDTH, 4)
    np.testing.assert_allclose(holes[..., :3], palette[index] / 255, atol=1e-7)
    np.testing.assert_array_equal(holes[..., 3], index != 1)


def test_1_bit(tmp_path):
    values = levels(1, 1)[..., 0].astype(bool)
    Image.fromarray(values).convert("1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png")[..., 0], values)


def test_cmyk(tmp_path):
    Image.fromarray(levels(4), "CMYK").save(tmp_path / "a.tif")
    pixels = load_image(tmp_path / "a.tif")
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    with Image.open(tmp_path / "a.tif") as image:
        np.testing.assert_allclose(pixels, np.asarray(image.convert("RGB")) / 255, atol=1e-7)


def test_float_tiff(tmp_path):
    values = np.random.default_rng(0).uniform(size=(HEIGHT, WIDTH)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    np.testing.assert_array_equal(load_image(tmp_path / "a.tif")[..., 0], values)


def test_turned_as_exif_says(tmp_path):
    """Orientation 6: the camera was held upright, the rows are stored as columns."""
    values = levels(3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(
        load_image(tmp_path / "a.png"), np.rot90(values, -1) / 255, atol=1e-7
    )


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(np.full((HEIGHT, WIDTH), v, np.uint8)) for v in (30, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(load_image(tmp_path / "a.gif"), 30 / 255, atol=1e-7)


def bad_file(kind, folder):
    path = folder / f"{kind}.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("this is no picture")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        Image.fromarray(
            np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        ).save(path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind in ("nan", "levels"):
        values = np.full((HEIGHT, WIDTH), 120.0, np.float32)
        values[2, 3] = np.nan if kind == "nan" else 255
        path = folder / f"{kind}.tif"
        tifffile.imwrite(path, values)
    elif kind == "32 bits":
        path = folder / "integers.tif"
        tifffile.imwrite(path, np.full((HEIGHT, WIDTH), 200, np.int32))
    return path


REFUSED = {
    "missing": "no such file",
    "folder": "no such file|not a",
    "text": "not a picture",
    "empty": "not a picture",
    "truncated": "not a picture",
    "nan": "1 values are not finite",
    "levels": "values from 120 to 255, all whole",
    "32 bits": "32-bit integers",
}


@pytest.mark.parametrize("kind, words", REFUSED.items())
def test_bad_files_are_refused_by_name(tmp_path, kind, words):
    path = bad_file(kind, tmp_path)
    with pytest.raises(ValueError, match=words) as refused:
        load_image(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("value, words", [(1.5, "to 1.5, wanted 0 to 1"), (-0.25, "from -0.25")])
def test_a_task_learns_values_from_0_to_1(value, words):
    pixels = np.full((3, 4, 3), 0.5)
    pixels[1, 2, 0] = value
    with pytest.raises(ValueError, match=words):
        ImageTask(pixels)


def test_memory_decides_how_many_pixels_are_too_many(tmp_path, monkeypatch):
    Image.fromarray(levels(3)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # of which Pillow refuses the double
    assert load_image(tmp_path / "a.png").shape == (HEIGHT, WIDTH, 3)
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setattr(memory, "available", lambda: 29.0 * HEIGHT * WIDTH)
    with pytest.raises(memory.NotEnough, match=f"a.png: a picture of {WIDTH} x {HEIGHT}"):
        load_image(tmp_path / "a.png")


def test_pixels_without_area_or_shape_are_refused():
    for shape in ((0, 4, 3), (4, 0, 3), (4, 4, 0), (4,), (2, 3, 4, 5)):
        with pytest.raises(ValueError, match="height, width, channels"):
            check_pixels(np.zeros(shape), "some pixels")
    assert check_pixels(np.zeros((4, 5)), "grey").shape == (4, 5, 1)
    assert check_pixels(np.zeros((4, 5)), "grey").dtype == np.float32


def test_psnr_and_ssim_equal_scikit_image():
    random = np.random.default_rng(0)
    target = random.uniform(size=(20, 31, 3)).astype(np.float32)
    prediction = np.clip(target + random.normal(scale=0.1, size=target.shape), 0, 1).astype(
        np.float32
    )
    assert np.isclose(
        psnr(target, prediction),
        peak_signal_noise_ratio(target, prediction, data_range=1),
        rtol=1e-6,
    )
    wanted = structural_similarity(target, prediction, channel_axis=-1, data_range=1, win_size=7)
    assert np.isclose(ssim(target, prediction), wanted, rtol=1e-6)
    small = structural_similarity(
        target[:6], prediction[:6], channel_axis=-1, data_range=1, win_size=5
    )
    assert np.isclose(ssim(target[:6], prediction[:6]), small, rtol=1e-6)


def test_metrics_clip_and_know_their_ends():
    target = np.full((8, 9, 1), 1.0, np.float32)
    assert psnr(target, target) == psnr(target, target + 3) == float("inf")
    assert np.isclose(psnr(target, target - 0.1), 20.0, atol=1e-4)
    assert np.isclose(ssim(target, target + 3), 1.0)
    assert np.isnan(ssim(target[:2], target[:2]))


def numbers(task, step, n):
    """Which pixels a batch holds: their centres are unique."""
    points = task.sample(step, n)["x"].numpy()
    column = np.floor(points[:, 0] * task.width).astype(int)
    row = np.floor(points[:, 1] * task.height).astype(int)
    return row * task.width + column


def test_an_epoch_holds_every_pixel_once():
    task = ImageTask(levels(2) / 255, seed=3)
    total = HEIGHT * WIDTH
    for epoch in range(3):
        seen = np.concatenate([numbers(task, 5 * epoch + step, total // 5) for step in range(5)])
        assert sorted(seen) == list(range(total))
    # each epoch in another order
    assert not np.array_equal(numbers(task, 0, total // 5), numbers(task, 5, total // 5))
    # 40 = 3 x 11 + 7: some wait for the next epoch
    odd = np.concatenate([numbers(task, step, 11) for step in range(3)])
    assert len(set(odd)) == 33


def test_a_step_sees_every_part_of_the_picture():
    """One pixel of every 2 x 2 tile, another one at each of four steps, neighbours together."""
    task = ImageTask(np.random.default_rng(0).uniform(size=(6, 8, 3)))
    for step in range(12):
        row, column = np.divmod(numbers(task, step, 12), 8)
        np.testing.assert_array_equal(4 * (row // 2) + column // 2, np.arange(12))


@pytest.mark.parametrize("n", [7, 11, 24, 29])
def test_no_pixel_is_seen_less_than_others(n):
    """Also where n does not divide the picture: what an epoch leaves out is another part each
    time."""
    task = ImageTask(np.random.default_rng(0).uniform(size=(5, 8, 3)), seed=1)
    steps = 2000
    seen = sum(np.bincount(task._tiles.rows(step, n), minlength=40) for step in range(steps))
    mean = n * steps / 40
    assert seen.sum() == n * steps and np.abs(seen - mean).max() < 5 * mean**0.5


@pytest.mark.parametrize("shape", [(5, 8), (3, 4), (1, 7), (6, 1)])
def test_strips_hold_every_pixel_once(shape):
    seen = np.ones(shape, bool)
    for rows in (1, 2, 4):
        assert sorted(in_strips(seen, rows)) == list(range(seen.size))
    assert in_strips(np.ones((3, 3), bool), 2).tolist() == [0, 3, 1, 4, 2, 5, 6, 7, 8]
    seen.flat[2:4] = False
    assert sorted(in_strips(seen, 2)) == np.flatnonzero(seen).tolist()


def test_a_step_has_one_batch_in_every_run():
    first = ImageTask(levels(2) / 255, seed=3)
    other_seed = ImageTask(levels(2) / 255, seed=4)
    batches = [numbers(first, step, 10) for step in range(8)]
    again = ImageTask(levels(2) / 255, seed=3)
    for step in (7, 2, 5, 0):  # also out of order, as after a restart
        np.testing.assert_array_equal(numbers(again, step, 10), batches[step])
    assert not np.array_equal(numbers(other_seed, 0, 10), batches[0])


def test_a_batch_pairs_points_with_their_colours():
    task = ImageTask(levels(3) / 255)
    batch = task.sample(1, 10)
    np.testing.assert_array_equal(
        batch["colour"].numpy(), task.pixels.reshape(-1, 3)[numbers(task, 1, 10)]
    )
    assert task.n_out == 3 and task.dim == 2 and task.aspect == (1.0, HEIGHT / WIDTH)


def test_held_out_pixels_are_never_drawn():
    """A quarter of the pixels, chosen by the seed, stays unseen in every epoch; the others all
    come."""
    drawn = {}
    for seed in (3, 4):
        task = ImageTask(levels(2) / 255, seed=seed, held_out=0.25)
        epochs = [
            set(np.concatenate([numbers(task, 3 * epoch + step, 10) for step in range(3)]))
            for epoch in range(4)
        ]
        assert all(len(epoch) == 30 and epoch == epochs[0] for epoch in epochs)
        drawn[seed] = epochs[0]
    assert drawn[3] != drawn[4]
    assert len(numbers(ImageTask(levels(2) / 255, held_out=0.25), 0, 10**6)) == 30


def test_held_out_pixels_are_measured_apart():
    """A field that is wrong on the drawn pixels only is perfect on the others."""
    task = ImageTask(np.clip(render(ramp, HEIGHT, WIDTH), 0, 1), held_out=0.25)
    drawn = numbers(task, 0, 30)
    wrong = np.zeros((HEIGHT * WIDTH, 3), np.float32)
    # stays within 0..1
    wrong[drawn] = 0.1 * np.where(task.pixels.reshape(-1, 3)[drawn] < 0.5, 1, -1)

    metrics = task.evaluate(lambda x: ramp(x) + jt.array(wrong))
    assert np.isclose(metrics["psnr_train"], 20, atol=1e-3)
    assert metrics["psnr_held_out"] > 100
    assert np.isclose(metrics["psnr"], 20 - 10 * np.log10(0.75), atol=1e-3)
    assert "psnr_held_out" not in ImageTask(task.pixels).evaluate(ramp)


@pytest.mark.parametrize("held_out", [-0.1, 1.0, float("nan")])
def test_a_bad_held_out_fraction_is_refused(held_out):
    with pytest.raises(ValueError, match="`held_out`"):
        ImageTask(levels(2) / 255, held_out=held_out)


def test_the_task_has_no_other_arguments():
    """The tests here make each of them count: the picture, the seed, the held-out fraction."""
    assert list(inspect.signature(ImageTask.__init__).parameters) == [
        "self",
        "pixels",
        "seed",
        "held_out",
    ]


def ramp(x):
    """A field that is its own coordinates."""
    return jt.concat([x, x[:, :1] * 0.0 + 0.5], dim=1)


def test_render_puts_x_along_the_width_and_y_downwards():
    pixels = render(ramp, HEIGHT, WIDTH)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(
        pixels[..., 0], np.tile((np.arange(WIDTH) + 0.5) / WIDTH, (HEIGHT, 1)), atol=1e-6
    )
    np.testing.assert_allclose(
        pixels[..., 1], np.tile((np.arange(HEIGHT) + 0.5) / HEIGHT, (WIDTH, 1)).T, atol=1e-6
    )
    assert pixel_centres(HEIGHT, WIDTH)[1].tolist() == pytest.approx([1.5 / WIDTH, 0.5 / HEIGHT])


def test_render_in_chunks_equals_render_at_once():
    points = pixel_centres(HEIGHT, WIDTH)
    sizes = []

    def counted(x):
        sizes.append(len(x))
        return ramp(x)

    parts = in_chunks(counted, points, 7)
    assert sizes == [7] * (len(points) // 7) + [len(points) % 7]
    np.testing.assert_allclose(
        parts.reshape(HEIGHT, WIDTH, 3), render(ramp, HEIGHT, WIDTH), atol=1e-7
    )


def test_loss_and_metrics_of_a_known_field():
    task = ImageTask(np.clip(render(ramp, HEIGHT, WIDTH), 0, 1))
    assert float(sum(task.loss(Field(None, ramp, {}), task.sample(0, 40)).values()).item()) < 1e-10
    metrics = task.evaluate(ramp)
    assert metrics["psnr"] > 100 and metrics["ssim"] > 0.999 and task.metric in metrics
    shifted = ImageTask(np.clip(task.pixels, 0, 0.9) + 0.1)
    assert np.isclose(shifted.evaluate(ramp)["psnr"], psnr(shifted.pixels, task.pixels), rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_saved_pictures_come_back(tmp_path, channels):
    values = levels(channels) / 255
    assert picture.save(tmp_path / "a.png", values) == tmp_path / "a.png"
    np.testing.assert_allclose(load_image(tmp_path / "a.png"), values, atol=1e-7)


def test_saved_pictures_are_rounded_and_clipped(tmp_path):
    picture.save(tmp_path / "a.png", np.array([[[-0.5], [1.5], [0.5]]]))
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 255, 128]]


def test_alpha_lies_over_white():
    pixels = np.array([[[0.5, 0.25], [1.0, 0.0]]])
    np.testing.assert_allclose(picture.as_rgb(pixels), [[[0.875] * 3, [1.0] * 3]])
    np.testing.assert_allclose(
        picture.as_rgb(np.array([[[0.2, 0.4, 0.6, 0.5]]])), [[[0.6, 0.7, 0.8]]]
    )


def test_panels_stand_side_by_side():
    panels = [
        ("one", np.zeros((20, 30, 1))),
        ("two", np.full((40, 50, 3), 0.5)),
        ("three", np.ones((10, 5, 4))),
    ]
    sheet = picture.side_by_side(panels)
    margin = picture.MARGIN
    last = 30 + 50 + 3 * margin
    # the third is narrower than its caption
    assert 20 < sheet.shape[1] - margin - last < 60 and sheet.shape[2] == 3
    # which is written to its end
    assert (sheet[:, last + 20 :] < 0.5).any()
    top = sheet.shape[0] - 40
    assert top > 10  # room for the captions
    first = sheet[top:, margin : 30 + margin]
    assert (first[:20] == 0).all() and (first[20:] == 1).all()
    assert (sheet[:, :margin] == 1).all() and (sheet[:, -margin:] == 1).all()
    second = sheet[top:, 30 + 2 * margin : 80 + 2 * margin]
    np.testing.assert_allclose(second, 0.5, atol=1 / 255)
    assert (sheet[:top] < 0.5).any()  # something is written there


def test_heat_map_has_its_scale_beside_it():
    values = np.linspace(0, 2, 32 * 40).reshape(32, 40)
    heat = picture.heat(values, 2.0)
    assert heat.shape == (32, 40, 3)
    assert (np.diff(heat.sum(2).ravel()) >= 0).all()  # dark to bright
    np.testing.assert_array_equal(picture.heat(values, 1.0)[-1, -1], heat[-1, -1])
    sheet = picture.with_scale(heat, 2.0)
    assert sheet.shape[0] == 32 and sheet.shape[1] > 40
    np.testing.assert_allclose(sheet[:, :40], heat, atol=1 / 255)


def test_export_writes_the_pictures_it_names(tmp_path):
    task = ImageTask(np.clip(render(ramp, 24, 32), 0, 1))
    paths = task.export(ramp, tmp_path)
    assert sorted(p.name for p in paths) == ["comparison.png", "error_map.png", "prediction.png"]
    assert all(p.is_file() for p in paths)
    np.testing.assert_allclose(load_image(tmp_path / "prediction.png"), task.pixels, atol=0.6 / 255)
    error_map = load_image(tmp_path / "error_map.png")
    comparison = load_image(tmp_path / "comparison.png")
    assert error_map.shape[0] == 24 and error_map.shape[1] > 32
    assert (
        comparison.shape[1] >= 32 + 32 + error_map.shape[1] + 2 * picture.MARGIN
        and comparison.shape[0] > 24
    )


def test_a_photograph(data_folder):
    """Kodak's first picture is read, and a piece of it is fitted."""
    photographs = sorted((data_folder / "kodak").glob("*.png"))
    if not photographs:
        pytest.skip("no Kodak pictures there")
    pixels = load_image(photographs[0])
    assert pixels.shape in ((512, 768, 3), (768, 512, 3)) and 0.1 < pixels.mean() < 0.9
    task = ImageTask(pixels[100:148, 200:264])
    model = DenseGridConfig(
        finest=32,
        coarsest=8,
        levels=2,
        channels=2,
        profile="linear",
        decoder=DecoderConfig(width=8, depth=1),
    ).build(Domain(2, 3, task.aspect))
    config = TrainConfig(steps=150, batch=1024, eval_every=150, warmup=10, decay=0.1)
    before = task.evaluate(model)["psnr"]
    assert Trainer(task, model, config, progress=False).fit()["psnr"] > max(20, before + 5)


def test_nodes_go_where_the_picture_changes():
    """Half everywhere, half by gradient: here around the edge at x = 1/2; the seed moves them, and
    nothing else does."""
    pixels = np.zeros((16, 24, 2), np.float32)
    pixels[:, 12:] = 1
    nodes = place_nodes(pixels, 600, seed=3)
    assert (
        nodes.shape == (600, 2)
        and nodes.dtype == np.float32
        and nodes.min() >= 0
        and nodes.max() <= 1
    )
    near = np.abs(nodes[:, 0] - 0.5) < 1.001 / 24
    assert abs(near.mean() - (0.5 + 0.5 * 2 / 24)) < 0.02
    assert (
        np.histogram(nodes[:, 1], 4, (0, 1))[0].min() > 140
        and np.histogram(nodes[~near], 4, (0, 1))[0].min() > 80
    )
    np.testing.assert_array_equal(nodes, place_nodes(pixels, 600, seed=3))
    assert not np.array_equal(nodes, place_nodes(pixels, 600, seed=4))
    for shape in ((1, 1, 1), (1, 9, 3), (9, 1, 3)):
        assert place_nodes(np.ones(shape), 5).shape == (5, 2)


def test_held_out_pixels_do_not_place_nodes():
    pixels = np.random.default_rng(0).uniform(size=(8, 8, 1)).astype(np.float32)
    task = ImageTask(pixels, 1, 0.5)
    other = pixels.copy()
    other.reshape(-1)[task.split[1]] = 0
    np.testing.assert_array_equal(ImageTask(other, 1, 0.5).place(50), task.place(50))
    assert not np.array_equal(ImageTask(other, 1).place(50), ImageTask(pixels, 1).place(50))


def test_the_published_ssim_is_that_of_a_gaussian_window():
    rng = np.random.default_rng(0)
    target = rng.uniform(size=(20, 30, 3)).astype(np.float32)
    noisy = target + 0.1 * rng.normal(size=target.shape).astype(np.float32)
    published = structural_similarity(
        target,
        np.clip(noisy, 0, 1),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        data_range=1.0,
    )
    # scikit-image's mean is float32
    assert ssim_gaussian(target, noisy) == pytest.approx(published, rel=1e-6)
    assert ssim(target, noisy) != pytest.approx(published, rel=1e-5)
    assert ssim_gaussian(target, target) == pytest.approx(1, rel=1e-6)
    assert np.isnan(ssim_gaussian(target[:10], noisy[:10])) and np.isnan(
        ssim(target[:2], noisy[:2])
    )


def test_a_picture_in_bands_is_the_same(monkeypatch):
    """Rendered, measured and saved, with bands of whole windows, of few rows, of one."""
    rng = np.random.default_rng(0)
    target = rng.random((40, 20, 3)).astype(np.float32)
    prediction = (target + 0.1 * rng.normal(size=target.shape)).astype(np.float32)

    def found():
        metrics = [f(target, prediction) for f in (psnr, ssim, ssim_gaussian)]
        return [*metrics, render(ramp, 40, 20)]

    wanted = found()
    for rows in (13, 3, 1):
        monkeypatch.setattr(picture, "BAND", 20 * rows)
        for value, other in zip(found(), wanted):
            np.testing.assert_allclose(value, other, rtol=1e-6)


def test_a_large_picture_has_a_smaller_map_of_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(image_task, "SHOWN_WHOLE", 40)
    target = np.zeros((9, 30, 3), np.float32)
    ImageTask(target).export(ramp, tmp_path)
    assert Image.open(tmp_path / "prediction.png").size == (30, 9)
    error = render(ramp, 9, 30).max(axis=2)
    worst = [[error[y : y + 3, x : x + 3].max() for x in range(0, 30, 3)] for y in range(0, 9, 3)]
    np.testing.assert_array_equal(picture.largest_of_blocks(error, 3), worst)
    whole = picture.heat_map(np.array(worst), 1.0)
    assert Image.open(tmp_path / "error_map.png").size == whole.shape[1::-1]
