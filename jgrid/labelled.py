"""Pictures with labels on disk: idx files (MNIST, Fashion-MNIST) and CIFAR-10's binary version."""

import gzip
import os
import zlib
from pathlib import Path
from typing import BinaryIO, Union

import numpy as np

Labelled = tuple[np.ndarray, np.ndarray]  # pictures (N, C, H, W) and labels (N,)

CIFAR = (3, 32, 32)
# of an idx file: two zero bytes, one for the type, one for the number of axes, their lengths as
# big-endian 32-bit numbers, then the values in C order
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# all of MNIST's 60,000 pictures are 47 MB; a gzipped file of a few kB could unpack to anything
MOST_BYTES = 2**30


def load_labelled(folder: Union[str, os.PathLike]) -> tuple[Labelled, Labelled]:
    """((pictures, labels), (pictures, labels)) to train on and to test on: (N, C, H, W) float32 in
    [0, 1] and (N,) int32.

    The folder holds MNIST's or Fashion-MNIST's four idx files, gzipped or not, or the binary
    version of CIFAR-10, which may lie in the folder of its archive. ValueError, naming the file,
    for what is missing or damaged.
    """
    folder = Path(folder)
    unpacked = folder / "cifar-10-batches-bin"
    folder = unpacked if unpacked.is_dir() else folder
    if (folder / "data_batch_1").is_file():
        raise ValueError(
            f"{folder / 'data_batch_1'}: CIFAR-10's version for Python, which is pickled; the"
            " binary version is read"
        )
    if (folder / "data_batch_1.bin").is_file():
        batches = [_read_cifar(folder / f"data_batch_{n}.bin") for n in range(1, 6)]
        pictures, labels = (np.concatenate(part) for part in zip(*batches))
        return (pictures, labels), _read_cifar(folder / "test_batch.bin")
    return _read_mnist(folder, "train"), _read_mnist(folder, "t10k")


def _read_mnist(folder: Path, part: str) -> Labelled:
    paths = [_find_idx(folder, part, kind) for kind in ("images-idx3", "labels-idx1")]
    pictures, labels = (read_idx(path) for path in paths)
    if pictures.ndim != 3 or pictures.dtype != np.uint8 or labels.shape != pictures.shape[:1]:
        raise ValueError(
            f"{paths[0]}: {pictures.dtype} {pictures.shape} with labels {labels.shape}, wanted"
            " bytes (N, H, W) and (N,)"
        )
    return pictures[:, None].astype(np.float32) / 255, labels.astype(np.int32)


def _find_idx(folder: Path, part: str, kind: str) -> Path:
    """The idx file of a part: with a dash or a dot in its name, as archives have it, gzipped or
    not; the usual name where there is none."""
    names = [f"{part}-{kind}-ubyte", f"{part}-{kind.replace('-', '.')}-ubyte"]
    for name in (*names, *(f"{name}.gz" for name in names)):
        if (folder / name).is_file():
            return folder / name
    return folder / names[0]


def _read_cifar(path: Path) -> Labelled:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    values = np.fromfile(path, np.uint8)
    row = 1 + int(np.prod(CIFAR))
    if not len(values) or len(values) % row:
        raise ValueError(
            f"{path}: {len(values):,} bytes, wanted rows of {row:,}: CIFAR-10's binary version"
        )
    rows = values.reshape(-1, row)
    return rows[:, 1:].reshape(-1, *CIFAR).astype(np.float32) / 255, rows[:, 0].astype(np.int32)


def read_idx(path: Union[str, os.PathLike]) -> np.ndarray:
    """The array of an idx file, gzipped or not, in its own shape and type (MNIST: uint8), native
    byte order.

    Raises ValueError, naming the file, where it is missing, not idx, too short, too long or beyond
    1 GiB. Source: yann.lecun.com/exdb/mnist, "the IDX file format".
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with open(path, "rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if gzipped else open(path, "rb") as file:
            return _parse(file, path)  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None


def _parse(file: BinaryIO, path: Union[str, os.PathLike]) -> np.ndarray:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not magic[3]:
        raise ValueError(f"{path}: not an idx file, it begins with {magic.hex(' ') or 'nothing'}")
    dtype = np.dtype(TYPES[magic[2]])
    lengths = file.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise ValueError(f"{path}: cut short, it ends within its header")
    shape = [int.from_bytes(lengths[i : i + 4], "big") for i in range(0, len(lengths), 4)]
    wanted = dtype.itemsize
    for n in shape:
        wanted *= n
    if wanted > MOST_BYTES:
        raise ValueError(
            f"{path}: says it holds {wanted:,} bytes of shape {tuple(shape)}; more than"
            f" {MOST_BYTES:,} are refused"
        )
    values = file.read(wanted + 1)
    if len(values) != wanted:
        short = len(values) < wanted
        raise ValueError(
            f"{path}: {'cut short' if short else 'too long'}, wanted {wanted:,} bytes of shape"
            f" {tuple(shape)}, found {f'{len(values):,}' if short else 'more'}"
        )
    return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="))
