"""Data sets on disk: what each folder must hold, and whether it does. `python -m jgrid.data FOLDER`
checks, `--stand-in` makes small ones.

data/README.md says where each set comes from. A hash is given only where the published file itself
was at hand; other files are checked by their form: names, sizes, shapes. Jittor is not needed.
"""

import argparse
import gzip
import hashlib
import json
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Callable, Optional, Union

from jgrid.labelled import read_idx

import numpy as np
from PIL import Image

# SHA-256 of the files as published
KODAK = {
    1: "a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd",
    5: "10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53",
    8: "e3cfc1371a5643c7f8cdf1bd565c172abce6aa26e3f2fdce74cbf7c32364089d",
    15: "d36d884e29bce92adea11de456be4e9a5815e79c112d47453a34a6f6edc84e63",
    19: "8f12d577f9ca36f384f82dec11ed8a4e12a27bd5a32ef117b9bcaf4fe4d0606f",
    23: "2ed596d7de74cc43d23add4c116763f49d7b5a78b21444fe84caece531ee933b",
}
MESHES = {
    "nefertiti.obj": "3ae65c1ec016d2903af36e2fff43c8dd7cd982cec45ce09fc57f18a5ee1c3ffb",
    "skull.obj": "823d83ed28a41ba714163bec7922c6bb7a82e9d82810ced1cc675660309e1817",
    "scorpion.obj": "98370d678a48e32191920f485725aa6be729f4a9f06f3cab9a8853a23a374384",
    "featuretype.stl": "c9946c4bb8034cd43522526a2f325200e2d2322a0c7258f848a81f00e418dab3",
}
STANFORD = (
    "armadillo.ply",
    "bunny.ply",
    "dragon.ply",
    "buddha.ply",
    "lucy.ply",
    "xyzrgb_dragon.ply",
    "statuette.ply",
)
# MD5 of the decompressed idx files, as compression may differ: MNIST's official ones;
# Fashion-MNIST's test set from Debian's package
IDX: dict[str, dict[str, Optional[str]]] = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": None,
        "train-labels-idx1-ubyte": None,
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
CIFAR_BYTES = 10000 * (1 + 3 * 32 * 32)  # a label and three planes a picture

Check = Callable[[Path], Optional[str]]  # of a file: its digest, or None; ValueError where wrong


def data_folder() -> Path:
    """Where data sets are looked for: $JGRID_DATA, or data/."""
    return Path(os.environ.get("JGRID_DATA") or "data")


def find(path: Union[str, os.PathLike], inside: str = ".") -> Path:
    """A path as it is where there is such a file or folder, or else the one of this name in
    `data_folder()` / inside; ValueError without."""
    there = data_folder() / inside / path
    if not Path(path).exists() and not there.exists():
        raise ValueError(f"{path}: no such file or folder, neither here nor in {there.parent}")
    return Path(path) if Path(path).exists() else there


class Found:
    """What was found of a set: how many files are as published (by their hash), how many have the
    right form, what is missing, what is wrong."""

    def __init__(self) -> None:
        self.hashed = 0
        self.formed = 0
        self.missing: list[str] = []
        self.problems: list[str] = []

    @property
    def whole(self) -> bool:
        """Whether nothing is missing or wrong."""
        return not (self.missing or self.problems)

    def file(self, path: Path, check: Check, digest: Optional[str] = None) -> None:
        """Count a file: its digest by `check`, None where it has the right form; ValueError of
        `check` says what is wrong."""
        if not path.is_file():
            self.missing.append(path.name)
            return
        try:
            found = check(path)
        except (ValueError, OSError) as error:
            why = " ".join(str(error).replace(f"{path}: ", "").split())
            self.problems.append(f"{path.name}: {why}")
            return
        if digest is None:
            self.formed += 1
        elif found == digest:
            self.hashed += 1
        else:
            self.problems.append(
                f"{path.name}: readable, but not the published file (hash {str(found)[:12]}...,"
                f" wanted {digest[:12]}...)"
            )


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def picture_check(fits: Callable[[tuple[int, int]], bool], wanted: str) -> Check:
    """A check of pictures: RGB, of a size (width, height) that fits; it returns the SHA-256.

    wanted: the sizes that fit, in words.
    """

    def check(path: Path) -> str:
        with Image.open(path) as image:
            image.load()
        if image.mode != "RGB" or not fits(image.size):
            raise ValueError(
                f"{image.mode} of {image.size[0]} x {image.size[1]} pixels, wanted RGB of {wanted}"
            )
        return sha256(path)

    return check


def check_kodak(folder: Path, found: Found) -> None:
    """24 pictures, six of them with their published hash."""
    check = picture_check(lambda size: sorted(size) == [512, 768], "768 x 512 or 512 x 768")
    for n in range(1, 25):
        found.file(folder / f"kodim{n:02}.png", check, KODAK.get(n))


def check_div2k(folder: Path, found: Found) -> None:
    """The 100 validation pictures."""
    check = picture_check(lambda size: max(size) == 2040, "2040 pixels along the longest side")
    for n in range(801, 901):
        found.file(folder / f"{n:04}.png", check)


def check_meshes(folder: Path, found: Found) -> None:
    """Meshes with their published hash."""
    for name, digest in MESHES.items():
        found.file(folder / name, sha256, digest)


def check_stanford(folder: Path, found: Found) -> None:
    """Scans of the Stanford repository, by their first word."""

    def check(path: Path) -> None:
        with open(path, "rb") as file:
            if file.read(4).strip() != b"ply":
                raise ValueError("not a PLY file")

    for name in STANFORD:
        found.file(folder / name, check)


def check_scenes(folder: Path, found: Found) -> None:
    """Any scene in NeRF-synthetic's format: cameras, and a picture of one size for each."""
    scenes = sorted(path.parent for path in folder.glob("*/transforms_train.json"))
    if not scenes:
        found.problems.append("no SCENE/transforms_train.json")
    for scene in scenes:
        for split in ("train", "test"):
            found.file(scene / f"transforms_{split}.json", _check_views)


def _check_views(path: Path) -> None:
    try:
        frames = json.loads(path.read_text(encoding="utf-8"))["frames"]
        names = [
            frame["file_path"]
            for frame in frames
            if np.shape(frame["transform_matrix"]) in ((4, 4), (3, 4))
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a transforms file ({type(error).__name__})") from None
    sizes = set()
    for name in names:
        file = path.parent / name
        file = file if file.is_file() else file.with_name(file.name + ".png")
        if not file.is_file():
            raise ValueError(f"{path.parent.name}: its picture {name} is missing")
        with Image.open(file) as image:
            sizes.add(image.size)
    if not names or len(names) < len(frames) or len(sizes) > 1:
        raise ValueError(
            f"{path.parent.name}: {len(frames)} frames, {len(names)} of them with a pose, pictures"
            f" of {len(sizes)} sizes"
        )


def check_idx(folder: Path, found: Found) -> None:
    """MNIST or Fashion-MNIST, by the folder's name."""
    for name, digest in IDX[folder.name].items():
        path = folder / name if (folder / name).is_file() else folder / f"{name}.gz"
        found.file(path, _idx_digest, digest)


def _idx_digest(path: Path) -> str:
    count = 60000 if path.name.startswith("train") else 10000
    wanted = (count, 28, 28) if "images" in path.name else (count,)
    values = read_idx(path)
    if values.shape != wanted or values.dtype != np.uint8:
        raise ValueError(f"{values.dtype} {values.shape}, wanted uint8 {wanted}")
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        return hashlib.md5(file.read()).hexdigest()


def check_cifar(folder: Path, found: Found) -> None:
    """The binary version, by its sizes."""

    def check(path: Path) -> None:
        if path.stat().st_size != CIFAR_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes, wanted {CIFAR_BYTES:,}")

    for name in (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"):
        found.file(folder / name, check)


SETS = {
    "kodak": check_kodak,
    "div2k": check_div2k,
    "meshes": check_meshes,
    "stanford": check_stanford,
    "scenes": check_scenes,
    "mnist": check_idx,
    "fashion-mnist": check_idx,
    "cifar-10": check_cifar,
}


def stand_in_kodak(folder: Path) -> None:
    """Corners of three of scikit-image's pictures."""
    import skimage.data

    for n, name in enumerate(("astronaut", "coffee", "chelsea"), 1):
        Image.fromarray(getattr(skimage.data, name)()[:256, :256]).save(folder / f"kodim{n:02}.png")


def stand_in_meshes(folder: Path) -> None:
    """A capsule, a ball and a ring."""
    import trimesh

    for name, mesh in (
        ("nefertiti", trimesh.creation.capsule(1.0, 0.4)),
        ("skull", trimesh.creation.icosphere(3)),
        ("scorpion", trimesh.creation.torus(1.0, 0.3)),
    ):
        mesh.export(folder / f"{name}.obj")


def stand_in_idx(folder: Path) -> None:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, in the middle of 28 x 28."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.pad(np.kron(digits.images / 16, np.ones((1, 3, 3))), ((0, 0), (2, 2), (2, 2)))
    for part, rows in (("train", slice(0, 1500)), ("t10k", slice(1500, None))):
        images = np.round(255 * pixels[rows])
        for kind, values in (("images-idx3", images), ("labels-idx1", digits.target[rows])):
            header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
            content = header + values.astype(np.uint8).tobytes()
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(content, mtime=0))


STAND_INS = {
    "kodak": stand_in_kodak,
    "meshes": stand_in_meshes,
    "mnist": stand_in_idx,
    "fashion-mnist": stand_in_idx,
}


def verify(folder: Path, sets: Collection[str] = ()) -> dict[str, Found]:
    """{set: Found} of the sets named, or of all that a data folder has."""
    results = {}
    for name in sets or [name for name in SETS if (folder / name).is_dir()]:
        results[name] = Found()
        if (folder / name).is_dir():
            SETS[name](folder / name, results[name])
        else:
            results[name].problems.append(f"no folder {name}")
    return results


def parse(arguments: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        "python -m jgrid.data",
        description="Check a folder of data sets (data/README.md), or make stand-ins.",
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=data_folder(), help="default $JGRID_DATA, or data"
    )
    parser.add_argument(
        "sets", nargs="*", help=f"of {', '.join(SETS)}; without any, those that are there"
    )
    parser.add_argument(
        "--stand-in",
        action="store_true",
        help=f"make small stand-ins instead, for {', '.join(STAND_INS)}",
    )
    return parser.parse_args(arguments)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command; its exit code: 0 all whole, 1 something missing or damaged, 2 a wrong
    command."""
    chosen = parse(arguments)
    known = STAND_INS if chosen.stand_in else SETS
    unknown = [name for name in chosen.sets if name not in known]
    if unknown:
        print(f"error: no set {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    if chosen.stand_in:
        return make_stand_ins(chosen.folder, chosen.sets or list(STAND_INS))
    if not chosen.folder.is_dir():
        print(f"error: {chosen.folder}: no such folder", file=sys.stderr)
        return 2
    results = verify(chosen.folder, chosen.sets)
    for name, found in results.items():
        print(
            f"{name:14} {'ok' if found.whole else 'incomplete':11} {found.hashed} as published,"
            f" {found.formed} of the right form"
        )
        missing = [f"missing: {', '.join(found.missing)}"] if found.missing else []
        for line in found.problems + missing:
            print(f"    {line}")
    if not chosen.sets:
        print(f"{'missing':14} {', '.join(name for name in SETS if name not in results)}")
    return 1 if not results or not all(found.whole for found in results.values()) else 0


def make_stand_ins(folder: Path, sets: Sequence[str]) -> int:
    """Make stand-ins in a folder; the exit code."""
    for name in sets:
        try:
            (folder / name).mkdir(parents=True)
        except FileExistsError:
            print(f"error: {folder / name} is there already and is left alone", file=sys.stderr)
            return 2
        try:
            STAND_INS[name](folder / name)
        except ImportError as error:  # of the extra `figures`
            (folder / name).rmdir()
            print(f"error: {error}; pip install scikit-learn", file=sys.stderr)
            return 2
        count = len(list((folder / name).iterdir()))
        print(f"{folder / name}: {count} files, to try things with; results on them mean nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
