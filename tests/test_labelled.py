"""idx files: what is written is read, and what is wrong with a file is said."""

import gzip
import struct

from jgrid.labelled import TYPES, load_labelled, read_idx

import numpy as np
import pytest


def idx_bytes(array, code=0x08):
    return (
        struct.pack(f">2xBB{array.ndim}I", code, array.ndim, *array.shape)
        + array.astype(TYPES[code]).tobytes()
    )


@pytest.mark.parametrize("code", TYPES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_reads_what_was_written(tmp_path, code, pack):
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(pack(idx_bytes(array, code)))
    found = read_idx(tmp_path / "a")
    assert (
        found.dtype == np.dtype(TYPES[code]).newbyteorder("=")
        and found.dtype.isnative
        and found.flags.writeable
    )
    np.testing.assert_array_equal(found, array)


def test_no_entries(tmp_path):
    (tmp_path / "a").write_bytes(idx_bytes(np.zeros((0, 28, 28))))
    assert read_idx(tmp_path / "a").shape == (0, 28, 28)


WHOLE = idx_bytes(np.arange(60).reshape(3, 4, 5))
ZIPPED = gzip.compress(WHOLE)
WRONG = {
    "empty": (b"", "not an idx"),
    "text": (b"hello world", "not an idx"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "not an idx"),
    "unknown type": (b"\0\0\x07" + WHOLE[3:], "not an idx"),
    "no axes": (b"\0\0\x08\0", "not an idx"),
    "header cut": (WHOLE[:9], "cut short"),
    "values cut": (WHOLE[:-1], "cut short"),
    "too long": (WHOLE + b"x", "too long"),
    "gzip cut": (ZIPPED[:-12], "cannot be read"),
    "gzip damaged": (ZIPPED[:20] + bytes(4) + ZIPPED[24:], "cannot be read|cut short|too long"),
    "gzip of text": (gzip.compress(b"hello world"), "not an idx"),
    "claims the world": (struct.pack(">2xBB4I", 8, 4, *[2**32 - 1] * 4), "refused"),
    "gzip bomb": (gzip.compress(WHOLE + bytes(10**7)), "too long"),
}


@pytest.mark.parametrize("content, words", WRONG.values(), ids=WRONG)
def test_says_what_is_wrong(tmp_path, content, words):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        read_idx(tmp_path / "bad")
    assert "bad" in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no such file"):
        read_idx(tmp_path)


@pytest.mark.parametrize("dash", "-.")
@pytest.mark.parametrize("ending, pack", [("", bytes), (".gz", gzip.compress)])
def test_names_have_a_dash_or_a_dot(tmp_path, dash, ending, pack):
    pictures = np.arange(60).reshape(3, 4, 5)
    for part in ("train", "t10k"):
        for kind, values in (("images", pictures), ("labels", np.arange(3))):
            name = f"{part}-{kind}{dash}idx{values.ndim}-ubyte{ending}"
            (tmp_path / name).write_bytes(pack(idx_bytes(values)))
    for found, labels in load_labelled(tmp_path):
        np.testing.assert_allclose(found[:, 0] * 255, pictures, atol=1e-4)
        assert labels.tolist() == [0, 1, 2]
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte: no such file"):
        load_labelled(tmp_path)


def test_cifar_may_lie_in_its_archives_folder(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    row = np.arange(3073).astype(np.uint8)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(row.tobytes())
    (pictures, labels), (_, test) = load_labelled(tmp_path)
    assert pictures.shape == (5, 3, 32, 32) and labels.tolist() == [0] * 5 and len(test) == 1
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "data_batch_1").write_bytes(b"\x80\x02}")
    with pytest.raises(ValueError, match="version for Python.*binary version"):
        load_labelled(tmp_path / "python")


def test_the_limit_counts(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(WHOLE)
    monkeypatch.setattr("jgrid.labelled.MOST_BYTES", 59)
    with pytest.raises(ValueError, match="refused"):
        read_idx(tmp_path / "a")


def test_mnist(data_folder):
    if not (data_folder / "mnist").is_dir():
        pytest.skip(f"no mnist in {data_folder}")
    images, labels = (
        read_idx(data_folder / "mnist" / f"t10k-{kind}-ubyte.gz")
        for kind in ("images-idx3", "labels-idx1")
    )
    assert images.shape == (10000, 28, 28) and images.dtype == np.uint8 and images.max() == 255
    assert list(np.bincount(labels)) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
