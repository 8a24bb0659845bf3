"""Read untrusted files: regular files of bounded size, parsed strictly.

A run directory, an archive or a suite may contain a FIFO instead of a file, gigabytes of data, deeply nested JSON,
invalid numbers or lone surrogates. Each case is reported in one line, before it costs time or memory.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from prefrl.errors import DamagedFileError
from prefrl.printable import printable

MEBIBYTE = 2**20
_CONTAINERS = 500_000
"""Maximum number of objects and arrays in JSON. Each takes 60 to 230 bytes of memory, but only 2 or more in a file."""
_DIGITS = 40
"""Maximum number of digits of an integer; the states of NumPy's generators have up to 39."""


@contextmanager
def opened(path: Path, most: int) -> Iterator[IO[bytes]]:
    """Open a regular file of at most ``most`` bytes for reading.

    Raises:
        DamagedFileError: if it is a directory, a device or a pipe, or is too large.
        FileNotFoundError: if the file does not exist.
    """
    _check(path, os.stat(path), most)  # before opening: that may block on a pipe and have effects on a device
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(path, flags), "rb") as file:
        _check(path, os.fstat(file.fileno()), most)
        yield file


def _check(path: Path, status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise DamagedFileError(f"{printable(path)} is damaged: it is not a regular file")
    if status.st_size > most:
        raise DamagedFileError(f"{printable(path)} is damaged: its {status.st_size} bytes are more than can be right")


def read_bytes(path: Path, most: int = MEBIBYTE) -> bytes:
    """Read a regular file of at most ``most`` bytes; errors as for `opened`."""
    with opened(path, most) as file:
        content = file.read(most + 1)
    if len(content) > most:  # the file grew while it was read
        raise DamagedFileError(f"{printable(path)} is damaged: it is larger than can be right")
    return content


def read_json(path: Path, most: int = MEBIBYTE) -> Any:
    """Read JSON from a regular file of at most ``most`` bytes; see `parse_json`.

    Raises:
        DamagedFileError: if it is not valid JSON, not a regular file, or too large.
        FileNotFoundError: if the file does not exist.
    """
    content = read_bytes(path, most)
    try:
        return parse_json(content)
    except ValueError as error:
        raise DamagedFileError(f"{printable(path)} is damaged: not JSON ({printable(error)})") from None


def parse_json(content: bytes | str, *, finite: bool = True) -> Any:
    """Parse JSON strictly: UTF-8, no lone surrogates, limited nesting and size.

    Args:
        content: The text.
        finite: Whether every number must be finite.

    Raises:
        ValueError: if the text is invalid or exceeds the limits.
    """
    text = content if isinstance(content, str) else content.decode("utf-8-sig")
    if text.count("[") + text.count("{") > _CONTAINERS:
        raise ValueError("it holds too many objects")
    try:
        value = json.loads(text, parse_int=_whole, **(_ONLY_FINITE if finite else {}))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if "\\u" in text:  # only escapes can contain lone surrogates; other text was checked by decoding
        json.dumps(value, ensure_ascii=False).encode()
    return value


def inflated(data: bytes, size: int) -> bytes:
    """Decompress data that must have exactly ``size`` bytes; no more memory than that is used.

    Raises:
        ValueError: if the result has another size, or the data are damaged.
    """
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(content) != size or not inflater.eof or inflater.unused_data:
        raise ValueError(f"it does not inflate to {size} bytes")
    return content


def read_toml(path: Path, most: int = MEBIBYTE) -> dict[str, Any]:
    """Read TOML from a regular file of at most ``most`` bytes.

    Raises:
        ValueError: if it is not TOML, or nested too deep.
        OSError: if it cannot be read.
    """
    text = read_bytes(path, most).decode()
    try:
        return tomllib.loads(text, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{printable(text, 40)} is no finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"{printable(text, 40)} is too large a number")
    return int(text)


_ONLY_FINITE: dict[str, Any] = {"parse_float": _finite, "parse_constant": _finite}
