"""Validate plain data, e.g. from JSON or TOML, against type hints.

No library is used, because each needs a hook for most types: msgspec 0.22 cannot refuse unknown fields of dataclasses;
cattrs 26.2 and pydantic 2.14 convert between types by default (True to 1, "3" to 3) and report errors as trees; all
three accept NaN and integers of any size. Here the first error is one short, printable line that names the setting.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from prefrl.errors import UsageError, near
from prefrl.printable import printable

_LARGEST = 2**63
"""Integers of smaller magnitude fit into a database and an array."""


def conform(hint: Any, value: Any, name: str) -> Any:
    """Validate a value against a type hint. Integers are accepted as floats, and lists as tuples.

    Args:
        hint: A plain type (`int`, `float`, `str`, `bool`), `Literal`, an optional plain type, a `list`, `tuple` or
            `dict` of them, a dataclass, a `TypedDict`, or `Any`.
        value: Plain data.
        name: Name of the value in error messages.

    Returns:
        The value; for a dataclass, an instance of it.

    Raises:
        UsageError: if the value has another type, is infinite, NaN or too large, or is text that UTF-8 cannot encode.
    """
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _instance(hint, value, name)
    if is_typeddict(hint):
        return _table(hint, value, name)
    return _generic(hint, value, name) if get_args(hint) else _plain(hint, value, name)


def _generic(hint: Any, value: Any, name: str) -> Any:
    """Validate against a generic type, e.g. a list or a union."""
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
    """Return a short form of a value for an error message, on one line."""
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
    """Return whether UTF-8 can encode a string. JSON may contain lone surrogates, which it cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _instance(cls: Any, data: Any, name: str) -> Any:
    """Create a dataclass from a dictionary with its fields and no others."""
    prefix = f"{name}." if name else ""
    if not isinstance(data, dict):
        raise UsageError(f"{name or 'the configuration'} must be an object")
    hints, required = _fields(cls)
    if extra := sorted(data.keys() - hints.keys()):
        raise UsageError(f"there is no setting {shown(prefix + extra[0])}{near(extra[0], hints)}")
    if missing := [each for each in required if each not in data]:
        raise UsageError(f"the setting {prefix}{missing[0]} is missing")
    return cls(**{each: conform(hints[each], value, prefix + each) for each, value in data.items()})


@cache
def _fields(cls: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the types of a dataclass's fields, and the fields without a default. Archives hold many instances."""
    hints, missing = get_type_hints(cls), (dataclasses.MISSING, dataclasses.MISSING)
    fields = dataclasses.fields(cls)
    required = [each.name for each in fields if (each.default, each.default_factory) == missing]
    return {each.name: hints[each.name] for each in fields}, required


def _table(hint: Any, data: Any, name: str) -> dict[str, Any]:
    """Validate a `TypedDict`. Unknown keys are kept, because other versions may write more keys."""
    if not isinstance(data, dict):
        raise UsageError(f"{name or 'its content'} cannot be {shown(data)}")
    hints = get_type_hints(hint)
    if missing := sorted(hint.__required_keys__ - data.keys()):
        raise UsageError(f"{name or 'it'} lacks {missing[0]}")
    prefix = f"{name}." if name else ""
    return {key: conform(hints[key], value, prefix + key) if key in hints else value for key, value in data.items()}
