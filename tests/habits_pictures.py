"""What people do with pictures, labels and commands: known values, in files of the world."""

import gzip
import io
import os
import struct
import subprocess
import sys
import unittest.mock
import zlib
from pathlib import Path

import jgrid
from jgrid import cli
from jgrid.labelled import load_labelled

import fit_image
import fit_sdf
import fit_views
import numpy as np
import tifffile
import trimesh
from habits import Habit, Wrong
from habits_scenes import Capture
from PIL import Image
from skimage.color import rgb2lab

REPOSITORY = Path(__file__).resolve().parents[1]
HEIGHT = 12
WIDTH = 16
EIGHT = np.zeros((HEIGHT, WIDTH, 3), np.uint8)  # a picture without symmetry
EIGHT[..., 0] = np.arange(WIDTH) * 16
EIGHT[..., 1] = np.arange(HEIGHT)[:, None] * 20 + 10
EIGHT[..., 2] = 90
GREY = (EIGHT[..., 0] // 2 + EIGHT[..., 1] // 2).astype(np.uint8)
SIXTEEN = EIGHT.astype(np.uint16) * 257 + 100
RGB = EIGHT / 255


# --- files


def saved(pixels, kind, mode=None, **options):
    file = io.BytesIO()
    made = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (made.convert(mode) if mode else made).save(file, kind, **options)
    return file.getvalue()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(pixels, colour, depth=8, chunks=()):
    """Rows of packed bytes or numbers as a PNG of a colour type, with chunks before the data."""
    packed = pixels.astype(">u2") if depth == 16 else pixels
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    width = pixels.shape[1] * (8 // depth if depth < 8 else 1)
    header = struct.pack(">IIBBBBB", width, pixels.shape[0], depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunk(name, body) for name, body in chunks)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def exr(pixels, half=False):
    """(H, W, 3 or 4) as an uncompressed OpenEXR of scan lines."""
    kind, size = (1, "<f2") if half else (2, "<f4")
    names = ["R", "G", "B", "A"][: pixels.shape[2]]
    order = sorted(range(len(names)), key=lambda n: names[n])

    def attribute(name, type_, value):
        name = name.encode() + b"\0"
        type_ = type_.encode() + b"\0"
        return name + type_ + struct.pack("<i", len(value)) + value

    h, w = pixels.shape[:2]
    channels = b"".join(
        names[n].encode() + b"\0" + struct.pack("<iB3xii", kind, 0, 1, 1) for n in order
    )
    window = struct.pack("<4i", 0, 0, w - 1, h - 1)
    header = struct.pack("<ii", 20000630, 2)
    header += attribute("channels", "chlist", channels + b"\0")
    header += attribute("compression", "compression", b"\0")
    header += attribute("dataWindow", "box2i", window) + attribute("displayWindow", "box2i", window)
    header += attribute("lineOrder", "lineOrder", b"\0")
    header += attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    header += attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0))
    header += attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0"
    lines = [b"".join(pixels[y, :, n].astype(size).tobytes() for n in order) for y in range(h)]
    first = len(header) + 8 * h
    offsets = [first + n * (8 + len(lines[0])) for n in range(h)]
    body = b"".join(struct.pack("<ii", y, len(line)) + line for y, line in enumerate(lines))
    return header + struct.pack(f"<{h}Q", *offsets) + body


def hdr(pixels):
    """(H, W, 3) as Radiance's RGBE, not compressed."""
    exponent = np.ceil(np.log2(np.maximum(pixels.max(-1), 1e-9)) + 1e-9).astype(int)
    mantissa = np.clip(pixels / 2.0 ** exponent[..., None] * 256, 0, 255)
    rgbe = np.concatenate([mantissa, exponent[..., None] + 128], -1).astype(np.uint8)
    h, w = pixels.shape[:2]
    return f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {h} +X {w}\n".encode() + rgbe.tobytes()


def profile(primaries, gamma):
    """An ICC profile of three colours (XYZ under D50) and one gamma."""
    numbers = lambda *v: struct.pack(f">{len(v)}i", *(round(x * 65536) for x in v))  # noqa: E731
    parts = [(b"wtpt", b"XYZ \0\0\0\0" + numbers(0.9642, 1.0, 0.8249))]
    parts += [
        (n, b"XYZ \0\0\0\0" + numbers(*p)) for n, p in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries)
    ]
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    parts += [(n, curve) for n in (b"rTRC", b"gTRC", b"bTRC")]
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 79
    parts += [(b"desc", text), (b"cprt", b"text\0\0\0\0none\0\0\0\0")]
    at = 132 + 12 * len(parts)
    table = b""
    body = b""
    for name, content in parts:
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", at + len(body), b"\0" * 4, 0x02100000, b"mntr", b"RGB ", b"XYZ "
    )
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + numbers(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(parts)) + table + body


ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061],
                 [0.01392, 0.09708, 0.71410]])  # fmt: skip


def as_srgb(pixels, primaries, gamma):
    linear = (pixels**gamma) @ np.array(primaries) @ np.linalg.inv(SRGB).T
    linear = np.clip(linear, 0, 1)
    return np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


# --- what is asked


def reads(content, expected, tolerance=1e-3, name="picture.png"):
    """The pixels of a picture file."""

    def ask(folder):
        (folder / name).write_bytes(content() if callable(content) else content)
        found = jgrid.load_image(folder / name)
        wanted = np.asarray(expected, float)
        wanted = wanted[..., None] if wanted.ndim == 2 else wanted
        if found.shape != wanted.shape:
            raise Wrong(f"read as {found.shape}, is {wanted.shape}")
        off = np.abs(found - wanted).max()
        if off > tolerance:
            raise Wrong(f"pixels are off by up to {off:.3f}")
        return f"off by {off:.2g} at most"

    return ask


def trade():
    kind = "formats of the trade"

    def habit(name, content, expected, ending, words=(), seen="", tolerance=1e-3, slow=False):
        ask = reads(content, expected, tolerance, f"picture.{ending}")
        return Habit(kind, name, ask, words, seen=seen, slow=slow)

    bright = RGB * 6
    lab = rgb2lab(RGB)
    lab8 = np.stack([np.round(lab[..., 0] * 2.55), np.round(lab[..., 1]) % 256,
                     np.round(lab[..., 2]) % 256], -1).astype(np.uint8)  # fmt: skip
    alpha = np.concatenate([bright, np.ones((HEIGHT, WIDTH, 1))], -1)

    def many_pixels():
        return saved(Image.new("1", (9600, 9600), 1), "PNG")

    return [
        habit("OpenEXR, float", exr(bright), bright, "exr", seen="~ instant-ngp: albert.exr"),
        habit("OpenEXR, half", exr(bright, half=True), bright, "exr", tolerance=4e-3,
              seen="~ tiny-cuda-nn: pictures of Factor Fields"),
        habit("OpenEXR with alpha", exr(alpha), alpha, "exr", seen="~ Blender: EXR with alpha"),
        habit("OpenEXR under the name of PNG", exr(bright), bright, "png", ("EXR",)),
        habit("Radiance HDR", hdr(bright), bright, "hdr", tolerance=0.03,
              seen="~ Polyhaven: .hdr of environments"),
        habit("float TIFF above 1", tiff(bright.astype(np.float32), photometric="rgb"), bright,
              "tif", seen="~ Pillow: float TIFF of three channels"),
        habit("float TIFF up to 255", tiff((RGB * 255).astype(np.float32)[..., 0]), RGB[..., 0],
              "tif", ("values from", "255")),
        habit("CIELab TIFF", tiff(lab8, photometric="cielab"), RGB, "tif", tolerance=0.04,
              seen="Pillow, libvips and ImageMagick: Lab comes out in wrong colours",
              words=("Lab",)),
        habit("92 megapixels", many_pixels, np.ones((9600, 9600)), "png", slow=True,
              seen="~ Pillow: DecompressionBombWarning"),
        habit("JPEG 2000", lambda: saved(EIGHT, "JPEG2000"), RGB, "jp2"),
        habit("WebP, lossless", saved(EIGHT, "WEBP", lossless=True), RGB, "webp"),
        habit("PFM", b"PF\n16 12\n-1.0\n" + bright[::-1].astype("<f4").tobytes(), bright, "pfm",
              ("PFM", "colour"), "~ NeRF-W and Middlebury: PFM"),
        habit("HEIC of a telephone", b"\0\0\0\x18ftypheic" + bytes(60), RGB, "heic",
              ("HEIC", "HEIF"), "~ nerfstudio: pictures of iPhones"),
        habit("numpy's .npy", npy(RGB), RGB, "npy", ("not a picture",)),
        habit("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', RGB, "svg", ("not a picture",)),
        habit("RAW of a camera (CFA)", tiff(GREY, photometric="cfa"), GREY / 255, "dng",
              ("raw", "CFA", "photometric"), "~ Pillow: DNG opens its thumbnail"),
    ]  # fmt: skip


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def pictures():
    # long because it is a list
    kind = "smaller ones: pictures"

    def habit(
        name, content, expected, ending="png", words=(), seen="", tolerance=1e-3, warned=False
    ):
        ask = reads(content, expected, tolerance, f"picture.{ending}")
        return Habit(kind, name, ask, words, warned, seen)

    def keyed(values, key):
        """A colour that is transparent."""
        values = values if values.ndim == 3 else values[..., None]
        visible = (values != key).any(-1)[..., None]
        top = 65535 if values.dtype == np.uint16 else 255
        return np.concatenate([values / top, visible], -1)

    key = EIGHT[3, 4]
    first = int(GREY[0, 0])
    deep = (GREY.astype(np.uint16) * 257)[..., None]
    fade = np.tile(np.linspace(20, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    rgba = np.concatenate([EIGHT, fade[..., None]], -1)
    la = np.stack([GREY, fade], -1)
    la16 = la.astype(np.uint16) * 257 + 50
    key16 = SIXTEEN[3, 4]
    product = np.round(RGB * fade[..., None] / 255 * 255).astype(np.uint8)
    premultiplied = np.concatenate([product, fade[..., None]], -1)
    four = GREY // 16
    nibbles = (four[:, 0::2] << 4 | four[:, 1::2]).astype(np.uint8)
    ten = GREY.astype(np.uint16) * 4
    small = Image.fromarray(EIGHT).resize((4, 3))
    turned = Image.Exif()
    turned[0x0112] = 6
    palette = Image.fromarray(EIGHT).quantize(64)
    palette_rgb = np.asarray(palette.convert("RGB"))
    index = palette.getpixel((4, 3))
    held = np.asarray(palette) != index
    cmyk = Image.fromarray(EIGHT).convert("CMYK")
    names = np.stack([EIGHT[..., 0], EIGHT[..., 1], EIGHT[..., 2], GREY, fade], -1)
    thumb = io.BytesIO()
    with tifffile.TiffWriter(thumb) as writer:
        writer.write(np.asarray(small), photometric="rgb", subfiletype=1)
        writer.write(EIGHT, photometric="rgb")
    halves = [Image.fromarray(EIGHT), Image.fromarray(255 - EIGHT)]
    gamma = profile(ADOBE, 2.2)
    linear = np.round(np.where(RGB < 0.04045, RGB / 12.92, ((RGB + 0.055) / 1.055) ** 2.4) * 255)
    bits = np.packbits(GREY > 120, axis=1)
    profiles = ("profile", "colour space", "ICC")
    return [
        habit("RGB with a colour key", png(EIGHT, 2, chunks=[(b"tRNS", struct.pack(
            ">3H", *key))]), keyed(EIGHT, key), seen="~ Pillow: tRNS of RGB is lost in conversion"),
        habit("grey with a key", png(GREY, 0, chunks=[(b"tRNS", struct.pack(">H", first))]),
              keyed(GREY, first)),
        habit("16-bit RGB with a colour key", png(SIXTEEN, 2, 16, [(b"tRNS", struct.pack(
            ">3H", *(int(v) for v in key16)))]), keyed(SIXTEEN, key16),
              seen="~ Pillow: 16-bit PNG with tRNS"),
        habit("a palette with a transparent entry", saved(palette, "PNG", transparency=index),
              np.dstack([palette_rgb / 255, held]), seen="Pillow: P with transparency became RGB"),
        habit("a GIF with a transparent entry", saved(palette, "GIF", transparency=index),
              np.dstack([palette_rgb / 255, held]), "gif"),
        habit("grey with alpha", png(la, 4), la / 255),
        habit("16-bit grey with alpha", png(la16, 4, 16), la16 / 65535,
              seen="~ Pillow: 16-bit LA is read as 8 bits", words=("16 bits",), warned=True),
        habit("16-bit grey", png(deep, 0, 16), deep / 65535,
              seen="Pillow: 16-bit grey comes out white"),
        habit("16-bit RGB", png(SIXTEEN, 2, 16), SIXTEEN / 65535),
        habit("4-bit grey", png(nibbles, 0, 4), four / 15, seen="Urcheon: grey PNG become 1-bit"),
        habit("1-bit", png(bits, 0, 1), (GREY > 120).astype(float)),
        habit("PGM up to 1023", b"P5\n16 12\n1023\n" + ten.astype(">u2").tobytes(), ten / 1023,
              "pgm", seen="~ Pillow: PGM whose maxval is not 255 or 65535"),
        habit("PGM up to 15", b"P5\n16 12\n15\n" + four.tobytes(), four / 15, "pgm"),
        habit("PPM of 16 bits", b"P6\n16 12\n65535\n" + SIXTEEN.astype(">u2").tobytes(),
              SIXTEEN / 65535, "ppm", seen="~ Pillow: 16-bit PPM loses its lower byte",
              words=("16 bits", "8"), warned=True),
        habit("PGM as text, with comments", b"P2\n# scanner\n16 12\n255\n" + " ".join(
            map(str, GREY.ravel())).encode(), GREY / 255, "pgm"),
        habit("CMYK of Adobe", saved(cmyk, "JPEG", quality=98, subsampling=0), RGB, "jpg",
              tolerance=0.06, seen="sharp and photopea: CMYK comes out inverted"),
        habit("TIFF, white is 0", tiff(255 - GREY, photometric="miniswhite"), GREY / 255, "tif",
              seen="image-tiff: WhiteIsZero"),
        habit("TIFF of 16 bits, white is 0", tiff(65535 - deep[..., 0], photometric="miniswhite"),
              deep[..., 0] / 65535, "tif", words=("white",),
              seen="~ Pillow: WhiteIsZero beyond 8 bits"),
        habit("TIFF, alpha multiplied in", tiff(premultiplied, photometric="rgb",
              extrasamples=["assocalpha"]), rgba / 255, "tif", tolerance=0.06,
              seen="libvips: associated alpha of TIFF"),
        habit("TIFF, each colour apart", tiff(np.moveaxis(EIGHT, -1, 0), photometric="rgb",
              planarconfig="separate"), RGB, "tif", seen="~ Pillow: planar configuration 2"),
        habit("TIFF of 16 bits, each colour apart", tiff(np.moveaxis(SIXTEEN, -1, 0),
              photometric="rgb", planarconfig="separate"), SIXTEEN / 65535, "tif",
              ("each colour apart",)),
        habit("TIFF of signed 16 bits", tiff((deep[..., 0] // 2).astype(np.int16)),
              deep[..., 0] // 2 / 32767, "tif", ("signed",), "Pillow: int16 of MATLAB",
              tolerance=0.01),
        habit("TIFF of 32-bit integers", tiff(deep[..., 0].astype(np.uint32)),
              deep[..., 0] / 65535, "tif", ("32-bit integers",)),
        habit("TIFF of 16 bits, big-endian", tiff(SIXTEEN, photometric="rgb", byteorder=">"),
              SIXTEEN / 65535, "tif"),
        habit("TIFF of float in [0, 1]", tiff(RGB[..., 0].astype(np.float32)), RGB[..., 0], "tif"),
        habit("TIFF of float RGB", tiff(RGB.astype(np.float32), photometric="rgb"), RGB, "tif",
              seen="~ Pillow: cannot identify float RGB TIFF"),
        habit("TIFF of five bands", tiff(names, photometric="rgb"), names[..., :3] / 255, "tif",
              ("band", "channel", "samples"), "~ OpenDroneMap: near infrared"),
        habit("TIFF whose first page is its thumbnail", thumb.getvalue(), RGB, "tif",
              ("page", "thumbnail"), "~ Pillow: DNG and NDPI open their thumbnails"),
        habit("JPEG under the name of PNG", saved(EIGHT, "JPEG", quality=98, subsampling=0), RGB,
              tolerance=0.04, seen="~ nerfstudio: endings that lie"),
        habit("PNG under the name of JPEG", saved(EIGHT, "PNG"), RGB, "JPG"),
        habit("a telephone's picture, turned by EXIF", saved(EIGHT, "PNG", exif=turned),
              np.rot90(RGB, -1), seen="~ Pillow: EXIF orientation of PNG"),
        habit("damaged EXIF", saved(EIGHT, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"), RGB,
              seen="~ Pillow: corrupt EXIF"),
        habit("an animation", saved(halves[0], "GIF", save_all=True, append_images=halves[1:]),
              RGB, "gif", tolerance=0.1),
        habit("WebP with alpha", saved(rgba, "WEBP", lossless=True, exact=True), rgba / 255,
              "webp"),
        habit("BMP with alpha", bmp(rgba), rgba / 255, "bmp",
              seen="~ Pillow: 32-bit BMP loses its alpha"),
        habit("BMP from the top down", bmp(rgba, down=True), rgba / 255, "bmp"),
        habit("TGA with alpha", saved(rgba, "TGA"), rgba / 255, "tga"),
        habit("cut short", saved(EIGHT, "PNG")[:-60], RGB, words=("truncated",)),
        habit("a colour profile: AdobeRGB", saved(EIGHT, "PNG", icc_profile=gamma),
              as_srgb(RGB, ADOBE, 2.2), words=profiles, warned=True, tolerance=0.02,
              seen="~ Pillow: ICC profiles are ignored by convert"),
        habit("a gamma of 1 (gAMA)", png(linear.astype(np.uint8), 2, chunks=[(
            b"gAMA", struct.pack(">I", 100000))]), RGB, words=("gamma", "gAMA"), warned=True,
              tolerance=0.06, seen="~ Pillow: gAMA is ignored"),
        habit("an empty file", b"", RGB, words=("empty", "not a picture")),
        habit("a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\n"
              b"oid sha256:00\nsize 12345\n", RGB, words=("LFS", "not a picture"),
              seen="~ instant-ngp: cloned without LFS"),
    ]  # fmt: skip


def bmp(rgba, down=False):
    """(H, W, 4) as a BMP of 32 bits with masks for its channels (version 4)."""
    h, w = rgba.shape[:2]
    rows = rgba[..., [2, 1, 0, 3]]
    body = (rows if down else rows[::-1]).tobytes()
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII4I", 108, w, -h if down else h, 1, 32, 3, len(body), 2835,
                       2835, 0, 0, *masks) + b"BGRs" + bytes(48)  # fmt: skip
    return (
        struct.pack("<2sIHHI", b"BM", 14 + len(info) + len(body), 0, 0, 14 + len(info))
        + info
        + body
    )


def labels():
    # long because it is a list
    """MNIST and CIFAR-10 as they are downloaded."""
    kind = "smaller ones: labels"
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
    numbers = np.arange(6, dtype=np.uint8)

    def idx(values):
        return (
            bytes([0, 0, 8, values.ndim])
            + struct.pack(f">{values.ndim}I", *values.shape)
            + values.tobytes()
        )

    whole = {"images-idx3": idx(pixels), "labels-idx1": idx(numbers)}
    cifar = np.concatenate([numbers[:, None], np.resize(pixels, (6, 3072))], 1).astype(np.uint8)

    def files(name="{part}-{kind}-ubyte", pack=bytes):
        return {
            name.format(part=part, kind=kind, dotted=kind.replace("-", ".")): pack(content)
            for part in ("train", "t10k")
            for kind, content in whole.items()
        }

    def batches(folder=""):
        names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
        return {folder + name: cifar.tobytes() for name in names}

    def habit(name, made, words=(), seen="", first=pixels):
        def ask(folder):
            for file, content in made.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(content)
            (images, classes), _ = load_labelled(folder)
            wanted = first if first.ndim == 4 else first[:, None]
            if len(images) % 6 or np.abs(images[:6] - wanted / 255).max() > 1e-6:
                raise Wrong("other pictures")
            if (classes[:6] != numbers).any():
                raise Wrong("other labels")

        return Habit(kind, name, ask, words, seen=seen)

    images = cifar[:, 1:].reshape(6, 3, 32, 32)
    short = {**files(), "train-labels-idx1-ubyte": idx(numbers[:5])}
    lacking = {k: v for k, v in files().items() if "t10k" not in k}
    page = {name: b"<!DOCTYPE html><html>" for name in files()}
    cut = {name: gzip.compress(content)[:-9] for name, content in files(pack=bytes).items()}
    return [
        habit("dotted names", files("{part}-{dotted}-ubyte"), (),
              "cudnn-training: train-images.idx3-ubyte is not found"),
        habit("dotted names, gzipped", files("{part}-{dotted}-ubyte.gz", gzip.compress)),
        habit("gzipped under the plain name", files(pack=gzip.compress)),
        habit("in torchvision's MNIST/raw", files("MNIST/raw/{part}-{kind}-ubyte"),
              ("train-images",), "~ torchvision: where the raw files lie"),
        habit("no test set", lacking, ("t10k",)),
        habit("fewer labels than pictures", short, ("labels (5,)", "labels")),
        habit("a page of HTML", page, ("not an idx",),
              "~ torchvision: MNIST's server answered 403"),
        habit("cut short by the download", {f"{k}.gz": v for k, v in cut.items()},
              ("cut short", "end-of-stream", "ended"), "~ torchvision: EOFError while unpacking"),
        habit("CIFAR-10 in its own folder", batches("cifar-10-batches-bin/"),
              ("data_batch_1.bin", "cifar"), "~ CIFAR-10: unpacked as published", first=images),
        habit("CIFAR-10", batches(), first=images),
        habit("CIFAR-10's version for Python",
              {"data_batch_1": b"\x80\x02}", "test_batch": b"\x80"},
              ("binary version", "cifar"), "~ CIFAR-10: pickled batches", first=images),
    ]  # fmt: skip


def results():
    # long because it is a list
    """Runs whose subjects have one name."""
    kind = "results overwritten"
    field = ["grid:dense", "--field.finest", "8", "--field.levels", "1"]
    few = ["--device", "cpu", "--train.steps", "2", *field]
    words = ("already", "another", "other", "changed", "not the same")

    def picture(path, pixels):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    def two(first, second, run):
        """Both runs with the default folder of results."""

        def ask(folder):
            made = []
            for place, subject in ((first, 0), (second, 1)):
                run(folder / place, subject)
                made.append(sorted(p.name for p in (folder / "out").iterdir()))
            if len(made[1]) < 2:
                raise Wrong(f"the second replaced the first in out/{made[1][0]}")
            return ", ".join(made[1])

        return ask

    def image(path, subject):
        picture(path, EIGHT if subject == 0 else 255 - EIGHT)
        fit_image.main(cli.parse(fit_image.Config, ["--image", str(path), *few]))

    def mesh(path, subject):
        path.parent.mkdir(parents=True, exist_ok=True)
        (trimesh.creation.box() if subject == 0 else trimesh.creation.icosphere(1)).export(path)
        sizes = ["--sdf.pool", "4096", "--resolution", "16", "--train.steps", "40"]
        flags = ["--mesh", str(path), "--device", "cpu", *sizes, *field]
        with unittest.mock.patch("jgrid.surface.task.EVALUATED", 2**12):
            fit_sdf.main(cli.parse(fit_sdf.Config, flags))

    def scene(path, subject):
        capture = Capture()
        if subject:
            capture.pixels = [pixels[:, ::-1] for pixels in capture.pixels]
        capture.save(path)
        sizes = ["--cells", "16", "--samples", "32", "--no-carve"]
        fit_views.main(cli.parse(fit_views.Config, ["--scene", str(path), *sizes, *few]))

    def resumed(change):
        """Stop a run, change what it is of, go on."""

        def ask(folder):
            from jgrid.image.task import ImageTask

            path = folder / "a.png"
            usual = ImageTask.sample

            def sample(task, step, n):
                if step == 10:
                    raise KeyboardInterrupt
                return usual(task, step, n)

            steps = ["--train.steps", "20", "--train.save-every", "1e-9"]
            flags = ["--image", str(path), "--device", "cpu", *steps, *field]
            picture(path, EIGHT)
            with unittest.mock.patch.object(ImageTask, "sample", sample):
                try:
                    fit_image.main(cli.parse(fit_image.Config, flags))
                except KeyboardInterrupt:
                    pass
            if not list((folder / "out").glob("*/resume.safetensors")):
                raise RuntimeError("the run left no checkpoint")
            change(path)
            fit_image.main(cli.parse(fit_image.Config, ["--resume", *flags]))
            raise Wrong("training went on with another picture")

        return ask

    def brighter(path):
        picture(path, 255 - EIGHT)

    def larger(path):
        picture(path, np.tile(EIGHT, (2, 2, 1)))

    return [
        Habit(kind, "two pictures of one name from two folders",
              two("a/cat.png", "b/cat.png", image), words,
              seen="~ tiny-cuda-nn: results named after the file"),
        Habit(kind, "two pictures that differ in their endings",
              two("cat.png", "cat.tif", image), words),
        Habit(kind, "a picture that was edited in between", two("cat.png", "cat.png", image), words,
              seen="~ nerfstudio: outputs of the same experiment name"),
        Habit(kind, "two meshes of one name from two folders",
              two("a/part.stl", "b/part.stl", mesh), words, slow=True),
        Habit(kind, "two scenes of one name from two folders",
              two("a/lego", "b/lego", scene), words, slow=True,
              seen="~ torch-ngp: --workspace of another scene"),
        Habit(kind, "--resume with an edited picture", resumed(brighter), words,
              seen="~ torch-ngp: a checkpoint of another data set is loaded"),
        Habit(kind, "--resume with a picture of another size", resumed(larger), words),
    ]  # fmt: skip


def starts():
    # long because it is a list
    """The app as a process."""
    kind = "a first start"

    def process(arguments, setup="", **environment):
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
        app = str(REPOSITORY / "apps" / "fit_image.py")
        code = f"import sys, runpy\n{setup}\nsys.argv = {[app, *arguments]!r}\n"
        code += f"sys.path.insert(0, {os.path.dirname(app)!r})\n"
        code += f"runpy.run_path({app!r}, run_name='__main__')"
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, timeout=300
        )

    few = ["--device", "cpu", "--train.steps", "2", "grid:dense", "--field.finest", "8"]

    def fails(done):
        text = done.stderr.decode(errors="replace")
        if "Traceback" in text:
            raise RuntimeError(" ".join(text.split())[-300:])
        raise Wrong(f"exit code {done.returncode}: {text[-200:]}")

    def help_alone(folder):
        """--help, where Jittor cannot be imported."""
        for name in ("jittor", "jittor_utils"):
            (folder / f"{name}.py").write_text("raise ImportError('it is not there yet')")
        path = os.pathsep.join([str(folder), str(REPOSITORY)])
        done = process(["--help"], PYTHONPATH=path)
        if done.returncode or b"--image" not in done.stdout:
            fails(done)

    def no_home(folder):
        done = process(["--help"], HOME="/proc/nowhere")
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        if done.returncode == 0 and b"--image" in done.stdout:
            return "works"
        if done.returncode == 2 and len(lines) == 1:
            raise ValueError(lines[0])
        fails(done)

    def ascii_out(folder):
        Image.fromarray(EIGHT).save(folder / "büro 立.png")
        done = process(["--image", "büro 立.png", *few], PYTHONIOENCODING="ascii", LC_ALL="C")
        if done.returncode or not list((folder / "out").glob("*/result.json")):
            fails(done)

    def closed(stream):
        def ask(folder):
            Image.fromarray(EIGHT).save(folder / "a.png")
            done = process(["--image", "a.png", *few], f"import os; os.close({stream})")
            if not list((folder / "out").glob("*/result.json")):
                fails(done)

        return ask

    return [
        Habit(kind, "--help where Jittor is not there yet", help_alone, slow=True,
              seen="~ Jittor: minutes of compiling before the help"),
        Habit(kind, "a HOME that cannot be written", no_home, ("HOME", "write", "cache"), slow=True,
              seen="~ Jittor: read-only home of a cluster"),
        Habit(kind, "stdout in ASCII, a name that is not", ascii_out, slow=True,
              seen="~ numpy-stl: UnicodeEncodeError under LC_ALL=C"),
        Habit(kind, "stderr closed", closed(2), slow=True, seen="~ cron: 2>&-"),
        Habit(kind, "stdin closed", closed(0), slow=True),
    ]  # fmt: skip


HABITS = [*trade(), *pictures(), *labels(), *results(), *starts()]
