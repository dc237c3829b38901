"""Configs: frozen dataclasses whose values are checked when they are made, to plain data and back.

    @config
    class SirenConfig:
        width: Annotated[int, Interval(ge=1, le=2**14)] = 256

The limits stand beside each entry, in the words of `annotated_types`. An entry's docstring is the
help of its command-line flag. Messages put an argument's name in backquotes; the command line
shows its flag instead.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, Union, get_type_hints

from annotated_types import Interval
from typing_extensions import Literal, dataclass_transform, get_args, get_origin

T = TypeVar("T")

MOST = 2**31 - 1  # of a number of things: what is larger does not fit into 32-bit indices
HUGE = 1e30  # of a length, a rate, a weight: what is larger overflows float32 when it is squared

Count = Annotated[int, Interval(ge=1, le=MOST)]
Positive = Annotated[float, Interval(gt=0, le=HUGE)]
Weight = Annotated[float, Interval(ge=0, le=HUGE)]
Finite = Annotated[float, Interval(gt=-math.inf, lt=math.inf)]
Share = Annotated[float, Interval(ge=0, lt=1)]


class ArgumentError(ValueError):
    """An argument that cannot be: its name, in backquotes, begins the message."""

    def __init__(self, argument: str, message: str):
        super().__init__(f"`{argument}` {message}")
        self.argument = argument


@dataclass_transform(frozen_default=True)
def config(cls: type[T]) -> type[T]:
    """The class as a frozen dataclass whose instances have been checked: each entry with limits or
    choices against these, then all together by the class's own `check`, where it has one.

    ArgumentError where an entry is out of its limits, no number, or none of its choices.
    """

    def __post_init__(self: Any) -> None:
        check_entries(self)
        if hasattr(cls, "check"):
            self.check()

    cls.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return dataclass(frozen=True)(cls)


def check_entries(values: Any) -> None:
    """ArgumentError where an entry of a config is out of the limits, or none of the choices, that
    its type names."""
    for name, kind in get_type_hints(type(values), include_extras=True).items():
        _check(name, kind, getattr(values, name))


def _check(name: str, kind: Any, value: Any) -> None:
    """One value against a type: its limits, its choices; what an Optional or a tuple holds."""
    origin = get_origin(kind)
    inner = get_args(kind)
    if origin is Literal and value not in inner:
        choices = ", ".join(map(str, inner))
        raise ArgumentError(name, f"must be one of {choices}, got {value!r}")
    if origin is Annotated:
        _check(name, inner[0], value)
        for limit in inner[1:]:
            if isinstance(limit, Interval):
                _check_interval(name, value, limit)
    elif origin is tuple:
        for part in value:
            _check(name, inner[0], part)
    elif origin is Union and value is not None and type(None) in inner:
        _check(name, inner[0], value)


def _check_interval(name: str, value: Any, limit: Interval) -> None:
    inside = (
        not math.isnan(value)
        and (limit.ge is None or value >= limit.ge)
        and (limit.gt is None or value > limit.gt)
        and (limit.le is None or value <= limit.le)
        and (limit.lt is None or value < limit.lt)
    )
    if not inside:
        raise ArgumentError(name, f"must be {_in_words(limit, value)}, got {value}")


def _in_words(limit: Interval, value: Any) -> str:
    """An interval as people say it to who gave `value`; what only guards against overflow goes
    without saying where it was not that."""
    low = ""
    high = ""
    if limit.ge is not None:
        low = f"at least {limit.ge}"
    elif limit.gt == 0:
        low = "positive"
    elif limit.gt not in (None, -math.inf):
        low = f"more than {limit.gt}"
    if limit.le not in (None, MOST, HUGE) or limit.le is not None and limit.le < value < math.inf:
        high = f"at most {limit.le:,}"
    elif limit.lt not in (None, math.inf):
        high = f"less than {limit.lt:,}"
    return " and ".join(part for part in (low, high) if part) or "a finite number"


def config_from_dict(cls: type[T], values: Any, name: str) -> T:
    """A config of plain data, as `dataclasses.asdict` makes it.

    ValueError, naming the entry after `name`, for what the class has no entry for, or a value of
    another type or beyond its limits.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} is no object with entries")
    types = get_type_hints(cls)
    unknown = values.keys() - {f.name for f in fields(cls)}  # type: ignore[arg-type]
    if unknown:
        raise ValueError(f"{name} has no {', '.join(sorted(map(str, unknown)))}")
    return cls(**{e: _entry(types[e], v, f"{name}'s {e}") for e, v in values.items()})


def _entry(kind: Any, value: Any, name: str) -> Any:
    if is_dataclass(kind):
        return config_from_dict(kind, value, name)  # type: ignore[arg-type]
    if get_origin(kind) is Literal:
        return value  # the config itself knows its choices
    if get_origin(kind) is Union:  # Optional of one kind
        return None if value is None else _entry(get_args(kind)[0], value, name)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), value, name)
    numbers = (int, float) if kind is float else kind
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, numbers):
        raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r:.40}")
    return value


def _tuple(kinds: Any, value: Any, name: str) -> Any:
    """The tuple of a list of as many entries as there are kinds, (kind, ...) being any number."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be a list, got {value!r:.40}")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise ValueError(f"{name} must have {len(kinds)} entries, got {len(value)}")
    return tuple(_entry(kind, v, f"{name}[{n}]") for n, (kind, v) in enumerate(zip(kinds, value)))
