"""Tables for people and for programs: Markdown with published values beside measured ones, CSV, and
the place of a table in a page."""

import csv
import importlib.metadata
import os
import platform
import re
import subprocess
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Union

from jgrid import checkpoint

import jittor as jt
import numpy as np

PUBLISHED = Path(__file__).with_name("published.csv")
WIDTH = 100  # columns of a page


def published(table: str) -> list[dict[str, str]]:
    """The published values of a table, [{"field", "data", "value", "metric", "parameters",
    "protocol", "source"}]; all text."""
    with open(PUBLISHED, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["table"] == table]


def cell(results: Sequence[dict[str, Any]], metric: str, digits: int = 2) -> str:
    """The mean of a metric over runs, with the spread over the seeds (standard deviation of their
    means) where there are several.

    results: of `Comparison.rows`; "-" where there are none, and why where one of them failed.
    """
    if not results:
        return "-"
    for result in results:
        if "failed" in result:
            return f"failed on {result['subject']}: {result['failed']}"
    by_seed: dict[int, list[float]] = {}
    for result in results:
        value = result[metric]
        by_seed.setdefault(result["wanted"]["seed"], []).append(np.nan if value is None else value)
    means = [np.mean(values) for values in by_seed.values()]
    text = f"{np.mean(means):.{digits}f}"
    return text if len(means) == 1 else f"{text} ± {np.std(means, ddof=1):.{digits}f}"


def markdown(head: Sequence[Any], lines: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""

    def row(values: Sequence[Any]) -> str:
        return "| " + " | ".join(str(value).replace("|", "/") for value in values) + " |"

    return "\n".join([row(head), "|" + "---|" * len(head), *map(row, lines)])


def write_csv(
    path: Union[str, os.PathLike], head: Sequence[Any], lines: Iterable[Sequence[Any]]
) -> None:
    """A table as a CSV file."""
    with (
        checkpoint.atomic_path(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([head, *lines])


def beside(table: str, names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """What was published for the fields of a table: ({field: "value [1], value [2]"}, the notes of
    Markdown that explain the numbers).

    names: the fields to find; published ones that are none of them are listed in the notes.
    """
    rows = published(table)
    numbers, notes = numbered(rows)
    found: dict[str, list[str]] = {name: [] for name in names}
    rest = []
    for row, number in zip(rows, numbers):
        size = f" ({row['parameters']} parameters)" if row["parameters"] else ""
        value = f"{row['value']}{size} [{number}]"
        if row["field"] in found:
            found[row["field"]].append(value)
        else:
            rest.append(f"{row['field']} {value}")
    notes += [f"Published for others: {'; '.join(rest)}."] if rest else []
    return {name: ", ".join(values) or "-" for name, values in found.items()}, notes


def numbered(rows: Iterable[dict[str, str]]) -> tuple[list[int], list[str]]:
    """The number of each published row's source, and the notes of Markdown that explain the
    numbers."""
    keys = [(row["data"], row["metric"], row["protocol"], row["source"]) for row in rows]
    sources = list(dict.fromkeys(keys))
    notes = [
        f"[{n}] {data}, {metric}: {source}; {protocol}."
        for n, (data, metric, protocol, source) in enumerate(sources, 1)
    ]
    return [sources.index(key) + 1 for key in keys], notes


def version() -> str:
    """The commit of this copy of jgrid, "-dirty" behind it where files have changed since;
    "unknown" outside a repository."""
    try:
        return (
            subprocess.run(
                ["git", "describe", "--always", "--dirty", "--abbrev=9"],
                cwd=Path(__file__).parent,
                capture_output=True,
                text=True,
                timeout=10,
            ).stdout.strip()
            or "unknown"
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def provenance(command: str, commit: str) -> str:
    """Which command at which commit made a table, and on what."""
    return f"`{command}`, commit {commit}; {machine()}."


def machine() -> str:
    """The processor, its cores and the versions, for people."""
    try:
        names = re.findall(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
    except OSError:
        names = []
    processor = (
        f"{os.cpu_count()} cores of {' '.join(names[0].split()) if names else platform.machine()}"
    )
    return (
        f"{'CUDA' if jt.flags.use_cuda else processor}, Python {platform.python_version()}, "
        f"Jittor {importlib.metadata.version('jittor')}"
    )


def insert(page: Union[str, os.PathLike], table: str, text: str) -> None:
    """Put text between the lines `<!-- table: TABLE -->` and `<!-- end -->` of a page, and leave
    the rest as it is.

    ValueError where the page has no such place.
    """
    before, after = check_place(page, table)
    lines = [line if line.startswith("|") else wrap(line) for line in text.strip().splitlines()]
    write(page, "\n".join([before, *lines, "", after]))


def wrap(paragraph: str) -> str:
    """A paragraph, or a point of a list, in lines of WIDTH columns."""
    indent = "  " if paragraph.startswith("* ") else ""
    return textwrap.fill(paragraph, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def check_place(page: Union[str, os.PathLike], table: str) -> tuple[str, str]:
    """A page before and after the place of a table, which `insert` fills; ValueError where it has
    none."""
    text = Path(page).read_text(encoding="utf-8") if Path(page).is_file() else ""
    found = re.fullmatch(
        rf"(.*<!-- table: {re.escape(table)} -->\n).*?(<!-- end -->.*)", text, re.DOTALL
    )
    if not found:
        raise ValueError(f"{page}: has no lines <!-- table: {table} --> and <!-- end -->")
    return found[1], found[2]


def write(path: Union[str, os.PathLike], text: str) -> None:
    """Text to a file, whole or not at all, with one line end."""
    with checkpoint.atomic_path(path) as temporary:
        temporary.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
