"""Plain data, as it comes from JSON or TOML, checked against type hints.

No library is used: none was found that does this without a hook for most types. msgspec 0.22 cannot refuse unknown
fields of dataclasses; cattrs 26.2 and pydantic 2.14 convert between types by default (True to 1, "3" to 3) and report
errors as trees; all three accept NaN and whole numbers of any size. Here the first error is one line that names the
setting, and what it quotes is short and printable.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from prefrl.errors import UsageError, near
from prefrl.printable import printable

_LARGEST = 2**63
"""Whole numbers below this fit a database and an array."""


def conform(hint: Any, value: Any, name: str) -> Any:
    """The value, if it is what the type asks for; whole numbers serve as floats, lists as tuples.

    Args:
        hint: A class of plain data (`int`, `float`, `str`, `bool`), `Literal`, `None` with one of these, a `list`,
            `tuple` or `dict` of them, a dataclass, a `TypedDict`, or `Any`.
        value: Plain data.
        name: What it is called in the error.

    Returns:
        The value; of a dataclass, an instance.

    Raises:
        UsageError: if it is of another type, infinite, not a number, too large, or no text that can be written.
    """
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _instance(hint, value, name)  # type: ignore[arg-type]
    if is_typeddict(hint):
        return _table(hint, value, name)
    return _generic(hint, value, name) if get_args(hint) else _plain(hint, value, name)


def _generic(hint: Any, value: Any, name: str) -> Any:
    """Types that are made of others."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal and not (isinstance(value, str) and value in inner):
        raise UsageError(f"{name} must be one of {', '.join(inner)}, not {shown(value)}")
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in inner if kind is not type(None)]
        return None if value is None and len(kinds) < len(inner) else conform(kinds[0], value, name)
    if origin in (tuple, list) and isinstance(value, list | tuple):
        return origin(conform(inner[0], item, name) for item in value)
    if origin is dict and isinstance(value, dict):
        return {conform(str, key, name): conform(inner[1], item, f"{name}.{key}") for key, item in value.items()}
    if origin is not Literal:
        raise UsageError(f"{name} cannot be {shown(value)}")
    return value


def shown(value: Any) -> str:
    """A value in an error: short, and on one line."""
    return printable(reprlib.repr(value), 80)


def _plain(hint: Any, value: Any, name: str) -> Any:
    if hint is float and type(value) is int and abs(value) < _LARGEST:
        return float(value)
    right = type(value) is hint
    if isinstance(value, float):
        right &= math.isfinite(value)
    elif isinstance(value, int):
        right &= abs(value) < _LARGEST
    elif isinstance(value, str):
        right &= _is_text(value)
    if not right:
        raise UsageError(f"{name} cannot be {shown(value)}")
    return value


def _is_text(value: str) -> bool:
    """Whether it can be written at all: JSON can spell halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _instance(cls: type[Any], data: Any, name: str) -> Any:
    """A dataclass from an object that has its fields and no others."""
    prefix = f"{name}." if name else ""
    if not isinstance(data, dict):
        raise UsageError(f"{name or 'the configuration'} must be an object")
    fields = {each.name: each for each in dataclasses.fields(cls)}
    if extra := sorted(set(data) - set(fields)):
        raise UsageError(f"there is no setting {shown(prefix + extra[0])}{near(extra[0], fields)}")
    hints, values = get_type_hints(cls), {}
    for each, its in fields.items():
        if each in data:
            values[each] = conform(hints[each], data[each], prefix + each)
        elif its.default is dataclasses.MISSING and its.default_factory is dataclasses.MISSING:
            raise UsageError(f"the setting {prefix}{each} is missing")
    return cls(**values)


def _table(hint: Any, data: Any, name: str) -> dict[str, Any]:
    """A `TypedDict`; what it does not name stays as it is, since another version may write more."""
    if not isinstance(data, dict):
        raise UsageError(f"{name or 'its content'} cannot be {shown(data)}")
    hints = get_type_hints(hint)
    if missing := sorted(hint.__required_keys__ - data.keys()):
        raise UsageError(f"{name or 'it'} lacks {missing[0]}")
    prefix = f"{name}." if name else ""
    return {key: conform(hints[key], value, prefix + key) if key in hints else value for key, value in data.items()}
