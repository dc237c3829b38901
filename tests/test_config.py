"""Configs: checked when they are made, to plain data and back."""

import math
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Annotated, Optional

from jgrid.config import (
    ArgumentError,
    Count,
    Finite,
    Positive,
    Share,
    Weight,
    config,
    config_from_dict,
)

import pytest
from annotated_types import Interval
from typing_extensions import Literal


@config
class Inner:
    width: Annotated[int, Interval(ge=1, le=64)] = 8


@config
class Outer:
    steps: Count = 10
    rate: Positive = 0.1
    weight: Weight = 0.0
    share: Share = 0.5
    shift: Finite = 0.0
    kind: Literal["a", "b"] = "a"
    most: Optional[Count] = None
    sizes: tuple[Count, ...] = (1, 2)
    corner: tuple[float, float] = (0.0, 0.5)
    flag: bool = False
    inner: Inner = Inner()

    def check(self):
        if self.flag and self.kind == "b":
            raise ArgumentError("flag", "goes with kind a only")


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"steps": 2**31}, "`steps` must be at least 1 and at most 2,147,483,647, got 2147483648"),
        ({"rate": 0.0}, "`rate` must be positive, got 0.0"),
        ({"rate": math.nan}, "`rate` must be positive, got nan"),
        ({"rate": math.inf}, "`rate` must be positive, got inf"),
        ({"weight": -1.0}, "`weight` must be at least 0, got -1.0"),
        ({"share": 1.0}, "`share` must be at least 0 and less than 1, got 1.0"),
        ({"shift": math.nan}, "`shift` must be a finite number, got nan"),
        ({"shift": -math.inf}, "`shift` must be a finite number, got -inf"),
        ({"kind": "c"}, "`kind` must be one of a, b, got 'c'"),
        ({"most": 0}, "`most` must be at least 1, got 0"),
        ({"sizes": (3, 0)}, "`sizes` must be at least 1, got 0"),
        ({"flag": True, "kind": "b"}, "`flag` goes with kind a only"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(entries, message):
    with pytest.raises(ArgumentError) as error:
        Outer(**entries)
    assert str(error.value) == message
    with pytest.raises(ArgumentError):
        replace(Outer(), **entries)


def test_what_can_be_is_frozen():
    made = Outer(steps=1, shift=-1e300, most=3, sizes=())
    with pytest.raises(FrozenInstanceError):
        made.steps = 2


def test_a_nested_config_is_checked_too():
    with pytest.raises(ArgumentError, match="`width` must be at least 1 and at most 64, got 65"):
        Inner(width=65)


def test_plain_data_and_back():
    made = Outer(steps=3, inner=Inner(width=5))
    assert config_from_dict(Outer, {**asdict(made), "sizes": [1, 2]}, "outer") == made
    assert config_from_dict(Outer, {"most": 3}, "outer") == Outer(most=3)


@pytest.mark.parametrize(
    "values, message",
    [
        (3, "outer is no object"),
        ({"stepps": 3}, "outer has no stepps"),
        ({"steps": "3"}, "outer's steps must be of type int, got '3'"),
        ({"most": "3"}, "outer's most must be of type int, got '3'"),
        ({"steps": True}, "outer's steps must be of type int, got True"),
        ({"inner": {"width": 1.5}}, "outer's inner's width must be of type int"),
        ({"inner": {"width": 0}}, "`width` must be at least 1 and at most 64, got 0"),
        ({"sizes": 3}, "outer's sizes must be a list, got 3"),
        ({"sizes": [3, "4"]}, r"outer's sizes\[1\] must be of type int, got '4'"),
        ({"corner": [1.0]}, "outer's corner must have 2 entries, got 1"),
    ],
)
def test_plain_data_that_is_wrong(values, message):
    with pytest.raises(ValueError, match=message):
        config_from_dict(Outer, values, "outer")
