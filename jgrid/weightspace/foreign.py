"""Zoos that others fitted: state dictionaries of MLPs of sines, in safetensors or npz files."""

import json
import os
import re
from pathlib import Path
from typing import Any, Optional, Union

from jgrid.weightspace.space import mlp_space
from jgrid.weightspace.zoo import Zoo, space_to_list

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

READABLE = (".safetensors", ".npz")
PARTS = ("train", "val", "test")  # of a JSON file that lists networks
PICKLES = (".pt", ".pth", ".pkl", ".bin")
State = dict[str, np.ndarray]


def load_foreign(path: Union[str, os.PathLike], omega: float) -> Zoo:
    """A zoo of sin(omega (W x + b)) networks that others fitted, with their classes.

    A file: entries of all networks stacked, (F, *sizes) each, `labels` (F,), and maybe `test` (F,),
    1 for those to test on. A folder: a file for each network, each with its `label`; or a JSON file
    {"train": {"path": [...], "label": [...]}, "val": ..., "test": ...}, as DWSNets' repository
    writes it, whose paths may still have the suffix that they had before they were converted.
    Matrices are (out, in), as PyTorch has them; names decide the order of the layers alone. As in
    jgrid, values of pictures are those of the network + 0.5.
    ValueError, which names the file, where something is missing or wrong, and for pickles, which
    are never read."""
    path = Path(path)
    _refuse_pickle(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    try:
        state, labels, test = _from_folder(path) if path.is_dir() else _from_file(path)
        weights = _layers(state)
        widths = [weights["W1"].shape[2]] + [weights[n].shape[1] for n in weights if n[0] == "b"]
        about = {
            "space": space_to_list(mlp_space(widths)),
            "activation": "sine",
            "omega": omega,
            "quality": "unknown",
            "made": {"imported": path.name},
            "seconds": 0.0,
        }
        zoo = Zoo(weights, _classes(labels), np.zeros(len(labels), np.float32), about, test)
        zoo.check()
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    return zoo


def _from_file(path: Path) -> tuple[State, np.ndarray, Optional[np.ndarray]]:
    state = _read(path)
    if "labels" not in state:
        raise ValueError("has no entry `labels`")
    labels = state.pop("labels")
    test = state.pop("test", None)
    return state, labels, None if test is None else test.astype(np.uint8)


def _from_folder(folder: Path) -> tuple[State, np.ndarray, Optional[np.ndarray]]:
    files, labels, test = _listed(folder) or (_found(folder), None, None)
    states = [_read(file) for file in files]
    if labels is None:
        for file, state in zip(files, states):
            if "label" not in state or state["label"].size != 1:
                raise ValueError(f"{file}: has no entry `label`, and no JSON file lists the labels")
        labels = np.array([state.pop("label").item() for state in states])
    for file, state in zip(files, states):
        if {n: v.shape for n, v in state.items()} != {n: v.shape for n, v in states[0].items()}:
            raise ValueError(f"{file}: its entries are not those of {files[0]}")
    return {name: np.stack([state[name] for state in states]) for name in states[0]}, labels, test


def _listed(folder: Path) -> Optional[tuple[list[Path], np.ndarray, Optional[np.ndarray]]]:
    """The files, labels and test networks of a JSON file in the folder; None without one."""
    for path in sorted(folder.glob("*.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        named = found if isinstance(found, dict) else {}
        parts = {n: named[n] for n in PARTS if isinstance(named.get(n), dict)}
        if any("path" in part for part in parts.values()):
            return _rows(path, parts)
    return None


def _rows(
    listed: Path, parts: dict[str, dict[str, Any]]
) -> tuple[list[Path], np.ndarray, Optional[np.ndarray]]:
    """What a JSON file lists; ValueError, which names it."""
    files: list[Path] = []
    labels: list[int] = []
    test: list[bool] = []
    for name, part in parts.items():
        paths = part.get("path")
        classes = part.get("label")
        if not (isinstance(paths, list) and isinstance(classes, list)):
            raise ValueError(f"{listed}: {name} needs a list `path` and a list `label`")
        if len(paths) != len(classes):
            raise ValueError(f"{listed}: {name} has {len(paths)} paths and {len(classes)} labels")
        for label in classes:
            if not str(label).isdecimal():
                raise ValueError(f"{listed}: labels must be whole numbers from 0 on, got {label!r}")
        files += [_converted(listed.parent / str(path)) for path in paths]
        labels += map(int, classes)
        test += [name == "test"] * len(paths)
    if not files:
        raise ValueError(f"{listed}: lists no networks")
    return files, np.array(labels), np.array(test, np.uint8) if len(set(test)) == 2 else None


def _converted(path: Path) -> Path:
    """The file of a listed one that can be read."""
    for suffix in READABLE:
        if path.with_suffix(suffix).is_file():
            return path.with_suffix(suffix)
    _refuse_pickle(path)
    raise ValueError(f"{path}: no such file, nor one that ends with {' or '.join(READABLE)}")


def _found(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix in READABLE)
    if not files:
        for file in sorted(folder.rglob("*")):
            _refuse_pickle(file)
        raise ValueError(f"no networks in this folder: files {' or '.join(READABLE)}")
    return files


def _refuse_pickle(path: Path) -> None:
    if path.suffix in PICKLES:
        name = path.with_suffix(READABLE[0]).name
        raise ValueError(
            f"{path}: pickles can run any program when they are read; where you trust it, convert"
            f" it: safetensors.torch.save_file(torch.load({path.name!r}, weights_only=True),"
            f" {name!r})"
        )


def _read(path: Path) -> State:
    if path.suffix not in READABLE:
        raise ValueError(f"{path}: needs a file that ends with {' or '.join(READABLE)}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (SafetensorError, ValueError, OSError, KeyError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def _layers(state: State) -> State:
    """{W1, b1, W2, ...} of entries by any names: matrices and vectors in their names' order, in
    which numbers count by their value."""
    names = sorted(state, key=_in_order)
    matrices = [state[name] for name in names if state[name].ndim == 3]
    vectors = [state[name] for name in names if state[name].ndim == 2]
    shapes = {name: list(state[name].shape[1:]) for name in names}
    fits = len(matrices) == len(vectors) > 1 and 2 * len(matrices) == len(names)
    if fits:
        outs = [matrix.shape[1] for matrix in matrices]
        ins = [matrix.shape[2] for matrix in matrices]
        fits = outs[:-1] == ins[1:] and outs == [vector.shape[1] for vector in vectors]
    if not fits:
        raise ValueError(
            f"no MLP: needs a matrix (out, in) and a bias for each layer, got {shapes}"
        )
    layers: dict[str, Any] = {}
    for m, (matrix, vector) in enumerate(zip(matrices, vectors), 1):
        layers[f"W{m}"] = matrix.astype(np.float32)
        layers[f"b{m}"] = vector.astype(np.float32)
    return layers


def _in_order(name: str) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _classes(labels: np.ndarray) -> np.ndarray:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError("labels must be whole numbers from 0 on, one for each network")
    return labels.astype(np.int32)
