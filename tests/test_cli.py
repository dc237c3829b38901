"""From a config to flags: errors name arguments, the command line shows their flags."""

import sys
from typing import Annotated, Optional, Union

from jgrid import cli, memory
from jgrid.config import ArgumentError, Count, Positive, Weight, config

import pytest
import tyro
from annotated_types import Interval
from typing_extensions import Literal


@config
class Decoder:
    width: Annotated[int, Interval(ge=1, le=64)] = 8


@config
class Grid:
    finest: Count = 16
    coarsest: Count = 4
    table_size: Annotated[int, Interval(ge=1, le=9)] = 8
    decoder: Decoder = Decoder()

    def check(self):
        if self.finest < self.coarsest:
            raise ArgumentError("finest", "must not be below `coarsest`")


@config
class Net:
    width: Count = 8
    kind: Literal["sine", "cosine"] = "sine"


@config
class Train:
    rate: Optional[Positive] = None
    sizes: tuple[Count, ...] = (1, 2)


@config
class Plain:
    """Its entries are flags without a prefix."""

    cells: Count = 3
    far_away: Weight = 0.0


@config
class Config:
    steps: Count = 3
    """Steps of the
    training."""
    from_: Annotated[Optional[int], tyro.conf.arg(name="from")] = None
    plain: Annotated[Plain, tyro.conf.arg(name="")] = Plain()
    train: Train = Train()
    field: Union[
        Annotated[Grid, tyro.conf.subcommand("grid", prefix_name=False)],
        Annotated[Net, tyro.conf.subcommand("net", prefix_name=False)],
    ] = Grid()

    def check(self):
        if self.steps == 7:
            raise ArgumentError("from_", "goes neither with `train.sizes` nor with `steps` 7")


PARSED = {
    "--steps 0": "--steps must be at least 1, got 0",
    "--steps 7": "--from goes neither with --train.sizes nor with --steps 7",
    "--cells 0": "--cells must be at least 1, got 0",
    "--far-away -1": "--far-away must be at least 0, got -1.0",
    "--train.rate 0": "--train.rate must be positive, got 0.0",
    "--train.sizes 1 0": "--train.sizes must be at least 1, got 0",
    "grid --field.finest 2": "--field.finest must not be below --field.coarsest",
    "grid --field.table-size 10": "--field.table-size must be at least 1 and at most 9, got 10",
    "grid --field.decoder.width 0": "--field.decoder.width must be at least 1 and at most 64",
    "net --field.width 0": "--field.width must be at least 1, got 0",
    "net --field.kind tangent": "tangent",
    "--steps many": "Error parsing --steps: invalid literal for int() with base 10: 'many'",
    "--stepps 3": "--stepps",
}


@pytest.mark.parametrize("arguments, words", PARSED.items(), ids=PARSED)
def test_what_cannot_be_parsed_is_one_line_of_flags(arguments, words, capfd):
    with pytest.raises(SystemExit) as ended:
        cli.parse(Config, arguments.split())
    line = capfd.readouterr().err
    assert ended.value.code == 2 and line.count("\n") == 1
    assert line.startswith("error: ") and line.endswith("; --help lists all flags\n")
    assert words in line and "`" not in line


MESSAGES = {
    "`finest` is": "--field.finest is",  # the only one of the name
    "`table_size` is": "--field.table-size is",
    "`decoder.width` is": "--field.decoder.width is",
    "`train.rate` is": "--train.rate is",
    "`from` or `from_`": "--from or --from",
    "`cells` and `plain.far_away`": "--cells and --far-away",
    "`depth` or `--steps` or `3`": "`depth` or `--steps` or `3`",  # no argument
}


@pytest.mark.parametrize("message, wanted", MESSAGES.items(), ids=MESSAGES)
def test_arguments_in_backquotes_become_flags(message, wanted):
    assert cli.with_flags(message, Config()) == wanted


def test_an_argument_is_that_of_the_field_that_was_chosen():
    assert cli.with_flags("`width` is", Config()) == "--field.decoder.width is"
    assert cli.with_flags("`width` is", Config(field=Net())) == "--field.width is"
    assert cli.with_flags("`width` is", Config) == "`width` is"  # which of the two?
    assert cli.with_flags("`width` is", Config, within="field") == "--field.width is"


def test_a_command_with_several_configs_has_the_flags_of_all():
    assert cli.flags(Union[Train, Net]).keys() == {"rate", "sizes", "width", "kind"}


COMMANDS = Union[
    Annotated[Config, tyro.conf.subcommand("fit", prefix_name=False)],
    Annotated[Grid, tyro.conf.subcommand("look", prefix_name=False)],
]


@pytest.mark.parametrize("flag", ["steps", "cells", "train.rate"])
def test_one_of_several_commands_names_its_flags(flag, capfd):
    with pytest.raises(SystemExit):
        cli.parse(COMMANDS, ["fit", f"--{flag}", "0"])
    assert capfd.readouterr().err.startswith(f"error: --{flag} must be")


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_errors_in_the_block_are_the_users(error, capfd):
    with pytest.raises(SystemExit) as ended, cli.user_errors(Config()):
        raise error("`finest`\nis too large")
    assert ended.value.code == 2
    assert capfd.readouterr().err == "error: --field.finest is too large\n"


def test_what_ends_a_command_names_flags_too(monkeypatch, capfd):
    def main(config):
        raise memory.NotEnough("lower `finest`")

    monkeypatch.setattr(cli, "handle_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["app", "--steps", "3"])
    with pytest.raises(SystemExit) as ended:
        cli.run(Config, main)
    assert ended.value.code == 2
    assert capfd.readouterr().err == "error: lower --field.finest\n"


def test_the_help_shows_no_limits_and_breaks_lines_where_it_has_to(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit):
        cli.parse(Config, ["--help"])
    text = capsys.readouterr().out
    assert "Steps of the training. (default: 3)" in text
    for line in ("--steps INT", "--train.rate {None}|FLOAT", "--train.sizes [INT [INT ...]]"):
        assert line in text
    assert "Interval" not in text
