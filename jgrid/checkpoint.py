"""Files that survive: written whole or not at all, loaded strictly, never pickle."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from jittor import nn
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

AnyPath = Union[str, os.PathLike]

# jgrid-1 had no checksum; jgrid-2 hashed pictures otherwise where a table is no power of two
FORMAT = "jgrid-3"


@contextlib.contextmanager
def atomic_path(path: AnyPath) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well, and vanishes when
    it does not.

    An OSError, such as that of a full disk, names `path`.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    try:
        yield Path(temporary)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


@contextlib.contextmanager
def atomic_folder(path: AnyPath) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes it when the block ends well, and vanishes when
    it does not, with the folders around it that were made for it.

    ValueError where `path` is there and no empty folder."""
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} is there, and no empty folder")
    path = path.resolve()
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def to_json(value: Any, indent: Optional[int] = None) -> str:
    """JSON text; numbers that are not finite, for which JSON has no word, become null."""

    def finite(v: Any) -> Any:
        if isinstance(v, dict):
            return {k: finite(u) for k, u in v.items()}
        if isinstance(v, (list, tuple)):
            return [finite(u) for u in v]
        return None if isinstance(v, float) and not math.isfinite(v) else v

    return json.dumps(finite(value), indent=indent, allow_nan=False)


def write_json(path: AnyPath, value: Any) -> None:
    """Write JSON-able data to a file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(to_json(value, indent=2) + "\n")


def digest(arrays: Mapping[str, np.ndarray], text: str = "") -> str:
    """SHA-256 of the names, types, shapes and bytes of arrays and of a text, in hexadecimal."""
    made = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        made.update(repr((name, str(arrays[name].dtype), arrays[name].shape)).encode())
        made.update(np.ascontiguousarray(arrays[name]).data)
    return made.hexdigest()


def save(path: AnyPath, tensors: Mapping[str, np.ndarray], config: Any) -> None:
    """Write named arrays and a JSON-able config, with a checksum of both, to one safetensors
    file."""
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    text = json.dumps(config)
    with atomic_path(path) as temporary:
        try:
            save_file(
                arrays,
                temporary,
                metadata={"format": FORMAT, "config": text, "sha256": digest(arrays, text)},
            )
        except SafetensorError as error:
            raise OSError(f"{path}: cannot be written ({error})") from None


def read(path: AnyPath) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors by name, config) of a file that `save` wrote. Raises ValueError, naming the file and
    what is wrong with it."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(
                    f"{path}: not a model of this version of jgrid (format"
                    f" {metadata.get('format')!r}, not {FORMAT!r})"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if digest(tensors, metadata["config"]) != metadata["sha256"]:
            raise ValueError(f"{path}: damaged: its checksum is not that of its content")
        config = json.loads(metadata["config"])
    except (
        SafetensorError,
        OSError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        json.JSONDecodeError,
    ) as error:
        raise ValueError(f"{path}: damaged or not a safetensors file ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: its config is no JSON object")
    return tensors, config


def require_entries(needed: AbstractSet[str], found: AbstractSet[str], name: str) -> None:
    """ValueError, naming them, where two sets of entries' names differ."""
    for problem, entries in (("lacks", needed - found), ("has unknown", found - needed)):
        if entries:
            raise ValueError(f"{name} {problem} {', '.join(sorted(entries))}")


def assign(model: nn.Module, tensors: Mapping[str, np.ndarray], name: str = "model") -> None:
    """Set a module's parameters to `tensors`; every entry must be there, with its shape, dtype and
    finite values.

    Raises ValueError that names the entry; the model is then unchanged.
    """
    parameters = model.state_dict()
    require_entries(parameters.keys(), tensors.keys(), name)
    for entry, value in parameters.items():
        found = tensors[entry]
        if tuple(found.shape) != tuple(value.shape) or str(found.dtype) != str(value.dtype):
            raise ValueError(
                f"{name}: {entry} is {found.dtype} {tuple(found.shape)}, not {value.dtype}"
                f" {tuple(value.shape)}"
            )
        if not np.isfinite(found).all():
            raise ValueError(f"{name}: {entry} has values that are not finite")
    for entry, value in parameters.items():
        value.assign(tensors[entry])
