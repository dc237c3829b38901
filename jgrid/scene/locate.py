"""Where the pictures are that a capture's files name."""

import os
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Optional
from urllib.parse import unquote

LISTED = 20  # names in a message, at most
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".exr")


def listed(names: Iterable[str]) -> str:
    """Names as the file writes them, in quotes, not too many."""
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(f"{name!r:.200}" for name in names[:LISTED]) + more


def locate(path: Path, names: Sequence[str], outside: bool) -> list[Optional[Path]]:
    """The files that a transforms file names, None for those that are missing.

    A name may lack its ending, have backslashes, %20, other capitals, letters composed otherwise;
    where no name leads anywhere, they may begin with folders of another machine.
    """
    find = _finder(path.parent)
    files = [find(name) for name in names]
    if not any(files):
        files = [_without_folders(find, name) for name in names]
        first = next((n for n, file in enumerate(files) if file), None)
        if first is not None:
            warnings.warn(
                f"{path}: no file is where it says; {names[first]!r:.200} is taken for"
                f" {os.path.relpath(str(files[first]), path.parent)}, and others alike",
                stacklevel=3,
            )
    for name, file in zip(names, files):
        if file is not None and not outside and not _is_inside(file, path.parent):
            raise ValueError(
                f"{path}: names {name!r:.200}, which is not in its folder; `outside` allows that"
            )
    return files


def _is_inside(file: Path, folder: Path) -> bool:
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(file)).parents


def _finder(folder: Path) -> Callable[[str], Optional[Path]]:
    """A function from a name to the file of a folder that it means; it lists each folder once."""
    listings: dict[str, dict[str, list[str]]] = {}

    def listing(place: str) -> dict[str, list[str]]:
        if place not in listings:
            entries: dict[str, list[str]] = {}
            for entry in os.listdir(place) if os.path.isdir(place) else []:
                entries.setdefault(_folded(entry), []).append(entry)
            listings[place] = entries
        return listings[place]

    def alike(name: str) -> Optional[Path]:
        place = str(folder)
        for part in PurePosixPath(name).parts:
            entries = [part] if part == ".." else listing(place).get(_folded(part), [])
            if len(entries) != 1:
                return None
            place = os.path.join(place, entries[0])
        return Path(place) if os.path.isfile(place) else None

    def find(name: str) -> Optional[Path]:
        slashes = name.replace("\\", "/")
        spellings = dict.fromkeys([name, slashes, unquote(slashes)])
        for spelling in spellings:
            for ending in ("", *ENDINGS):
                file = folder / (spelling + ending)
                if os.path.isfile(file):
                    return file
        for spelling in spellings:
            for ending in ("", *ENDINGS):
                found = None if spelling.startswith("/") else alike(spelling + ending)
                if found:
                    return found
        return None

    return find


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _without_folders(find: Callable[[str], Optional[Path]], name: str) -> Optional[Path]:
    """The file that a name means without its first folders, as few of them as possible."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    for n in range(1, len(parts)):
        found = None if ".." in parts[n:] else find("/".join(parts[n:]))
        if found:
            return found
    return None
