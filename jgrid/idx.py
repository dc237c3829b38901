"""Files in the idx format of MNIST, plain or gzipped."""
import gzip
import zlib
from pathlib import Path

import numpy as np

# Two zero bytes, one for the type, one for the number of axes, their lengths as big-endian 32-bit numbers, then the values in C order
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_BYTES = 2**30  # all of MNIST's 60,000 pictures are 47 MB; a gzipped file of a few kB could unpack to anything


def read_idx(path):
    """The array of an idx file, gzipped or not, in its own shape and type (MNIST: uint8), native byte order.

    Raises ValueError, naming the file, where it is missing, not idx, too short, too long or beyond 1 GiB.
    Source: yann.lecun.com/exdb/mnist, "the IDX file format".
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with open(path, "rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if gzipped else open(path, "rb") as file:
            return _parse(file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None


def _parse(file, path):
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not magic[3]:
        raise ValueError(f"{path}: not an idx file, it begins with {magic.hex(' ') or 'nothing'}")
    dtype, lengths = np.dtype(TYPES[magic[2]]), file.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise ValueError(f"{path}: cut short, it ends within its header")
    shape = [int.from_bytes(lengths[i:i + 4], "big") for i in range(0, len(lengths), 4)]
    wanted = dtype.itemsize
    for n in shape:
        wanted *= n
    if wanted > MOST_BYTES:
        raise ValueError(f"{path}: says it holds {wanted:,} bytes of shape {tuple(shape)}; more than {MOST_BYTES:,} are refused")
    values = file.read(wanted + 1)
    if len(values) != wanted:
        raise ValueError(f"{path}: {'cut short' if len(values) < wanted else 'too long'}, wanted {wanted:,} bytes of shape "
                         f"{tuple(shape)}, found {f'{len(values):,}' if len(values) < wanted else 'more'}")
    return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="))
