"""Tables for people and for programs: Markdown with published values beside measured ones, CSV, and
the place of a table in a page."""

import csv
import importlib.metadata
import os
import platform
import re
import subprocess
import textwrap
from pathlib import Path

from jgrid import checkpoint

import jittor as jt
import numpy as np

PUBLISHED = Path(__file__).with_name("published.csv")
WIDTH = 100  # columns of a page


def published(table):
    """The published values of a table, [{"field", "data", "value", "metric", "parameters",
    "protocol", "source"}]; all text."""
    with open(PUBLISHED, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["table"] == table]


def cell(results, metric, digits=2):
    """The mean of a metric over runs, with the spread over the seeds (standard deviation of their
    means) where there are several.

    results: of `Comparison.rows`; "-" where there are none, and why where one of them failed.
    """
    if not results:
        return "-"
    for result in results:
        if "failed" in result:
            return f"failed on {result['subject']}: {result['failed']}"
    by_seed = {}
    for result in results:
        value = result[metric]
        by_seed.setdefault(result["wanted"]["seed"], []).append(np.nan if value is None else value)
    means = [np.mean(values) for values in by_seed.values()]
    text = f"{np.mean(means):.{digits}f}"
    return text if len(means) == 1 else f"{text} ± {np.std(means, ddof=1):.{digits}f}"


def markdown(head, lines):
    """A Markdown table."""

    def row(values):
        return "| " + " | ".join(str(value).replace("|", "/") for value in values) + " |"

    return "\n".join([row(head), "|" + "---|" * len(head), *map(row, lines)])


def write_csv(path, head, lines):
    with (
        checkpoint.atomic_path(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([head, *lines])


def beside(table, names):
    """What was published for the fields of a table: ({field: "value [1], value [2]"}, the notes of
    Markdown that explain the numbers).

    names: the fields to find; published ones that are none of them are listed in the notes.
    """
    rows = published(table)
    sources = []
    for row in rows:
        key = (row["data"], row["metric"], row["protocol"], row["source"])
        if key not in sources:
            sources.append(key)

    def marked(row, value):
        size = f" ({row['parameters']} parameters)" if row["parameters"] else ""
        return (
            f"{value}{size}"
            f" [{sources.index((row['data'], row['metric'], row['protocol'], row['source'])) + 1}]"
        )

    found = {
        name: ", ".join(marked(row, row["value"]) for row in rows if row["field"] == name) or "-"
        for name in names
    }
    rest = [
        marked(row, f"{row['field']} {row['value']}") for row in rows if row["field"] not in names
    ]
    notes = [
        f"[{n}] {data}, {metric}: {source}; {protocol}."
        for n, (data, metric, protocol, source) in enumerate(sources, 1)
    ]
    notes += [f"Published for others: {'; '.join(rest)}."] if rest else []
    return found, notes


def version():
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


def provenance(command, commit):
    """Which command at which commit made a table, and on what."""
    return f"`{command}`, commit {commit}; {machine()}."


def machine():
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


def insert(page, table, text):
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


def check_place(page, table):
    """A page before and after the place of a table, which `insert` fills; ValueError where it has
    none."""
    text = Path(page).read_text(encoding="utf-8") if Path(page).is_file() else ""
    found = re.fullmatch(
        rf"(.*<!-- table: {re.escape(table)} -->\n).*?(<!-- end -->.*)", text, re.DOTALL
    )
    if not found:
        raise ValueError(f"{page}: has no lines <!-- table: {table} --> and <!-- end -->")
    return found[1], found[2]


def write(path, text):
    """Text to a file, whole or not at all, with one line end."""
    with checkpoint.atomic_path(path) as temporary:
        temporary.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
