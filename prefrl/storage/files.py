"""Atomic file replacement, and trees: nested dictionaries of arrays and plain values in a safetensors file.

Safetensors files contain only arrays and strings, nothing executable. Plain values are stored as JSON in the header. A
checksum over all content detects damaged files.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors
import safetensors.numpy

from prefrl.errors import DamagedFileError
from prefrl.printable import printable
from prefrl.storage.durable import sync_folder
from prefrl.storage.reading import opened, parse_json, read_json

__all__ = [
    "WRONG_CONTENT",
    "DamagedFileError",
    "Tree",
    "check_tree",
    "load_parts",
    "load_tree",
    "read_json",
    "replacing",
    "save_tree",
    "taken_from",
    "write_atomically",
    "write_json",
]

Tree = dict[str, Any]
"""Nested dictionaries with string keys. Leaves are arrays, tensors or JSON values."""
LARGEST_TREE = 2**32
"""Default size limit of a tree in bytes: a thousand segments of large images."""
_PIECE = 2**22
"""Bytes per read when a checksum is computed."""
WRONG_CONTENT = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors that result from data of an unexpected structure. RuntimeError includes RecursionError."""


@contextmanager
def replacing(path: Path, *, durable: bool = False, private: bool = False) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing, which atomically replaces another file when it is complete.

    Args:
        path: The file to replace.
        durable: Whether to flush it to disk, so that it survives a power cut and not only a killed process.
        private: Whether only the owner may read it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # left by a killed process with the same id
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(temporary, flags, 0o600 if private else 0o666), "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes, *, durable: bool = False, private: bool = False) -> None:
    """Replace a file's content atomically: a reader sees either the old or the new content; see `replacing`."""
    with replacing(path, durable=durable, private=private) as file:
        file.write(content)


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Write a value as indented JSON, atomically; NaN and infinite numbers become null."""
    write_atomically(path, (json.dumps(_finite(value), indent=2, allow_nan=False) + "\n").encode(), durable=durable)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_tree(path: Path, tree: Tree, *, durable: bool = False, private: bool = False) -> None:
    """Write a tree to a file atomically; see `replacing`.

    Raises:
        TypeError: if a leaf is neither an array nor a JSON value.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    plain = json.dumps(_split(tree, "", arrays))
    metadata = {"plain": plain, "crc32": str(_checksum(arrays, plain))}
    write_atomically(path, safetensors.numpy.save(arrays, metadata), durable=durable, private=private)


def size_of(tree: Any) -> int:
    """Return the bytes of a tree's arrays and tensors, and about those of its plain values."""
    if isinstance(tree, dict):
        return sum(map(size_of, tree.values()))
    return int(tree.nbytes) if hasattr(tree, "nbytes") else len(repr(tree))


def load_tree(path: Path, most: int = LARGEST_TREE) -> Tree:
    """Read a tree; each array is a separate NumPy array.

    Args:
        path: The file.
        most: Maximum file size in bytes.

    Raises:
        DamagedFileError: if the file is truncated, altered or too large.
        FileNotFoundError: if the file does not exist.
    """
    with opened(path, most):
        pass
    with _damage(path):
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        if int(metadata["crc32"]) != _checksum(arrays, metadata["plain"]):
            raise DamagedFileError(f"{printable(path)} is damaged: its checksum does not match")
        return _joined(metadata["plain"], arrays)


def load_parts(path: Path, parts: tuple[str, ...], most: int) -> Tree:
    """Read a tree's plain values and some of its arrays. The checksum of the whole file is verified.

    Args:
        path: The file.
        parts: Prefixes of the names of arrays to read, e.g. "agent/policy/".
        most: Maximum total size of these arrays in bytes.

    Raises:
        DamagedFileError: if the file is truncated or altered, or the arrays are too large.
        FileNotFoundError: if the file does not exist.
    """
    header = check_tree(path)
    wanted = {key: header[key]["data_offsets"] for key in header if key.startswith(parts)}
    if (size := sum(end - begin for begin, end in wanted.values())) > most:
        raise DamagedFileError(f"{printable(path)} is damaged: {size} bytes of {parts[0]} are more than can be right")
    with _damage(path), safetensors.safe_open(path, framework="numpy") as file:
        return _joined(file.metadata()["plain"], {key: file.get_tensor(key) for key in wanted})


def _joined(plain: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Tree:
    """Build a tree from its plain values and arrays; the inverse of `_split`."""
    tree = parse_json(plain, finite=False)
    for key, array in arrays.items():
        *parents, last = key.split("/")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = array
    return dict(tree)


def check_tree(path: Path, most: int = LARGEST_TREE) -> dict[str, Any]:
    """Verify a tree's checksum in small pieces, with little memory.

    Args:
        path: The file.
        most: Maximum file size in bytes.

    Returns:
        The header's entry for each array.

    Raises:
        DamagedFileError: if the file is truncated, altered or too large.
        FileNotFoundError: if the file does not exist.
    """
    with opened(path, most) as file, _damage(path):
        with safetensors.safe_open(path, framework="numpy"):
            pass  # safetensors checks that every array is within the file
        size = int.from_bytes(file.read(8), "little")
        header = parse_json(file.read(size), finite=False)
        metadata = header.pop("__metadata__")
        crc = zlib.crc32(metadata["plain"].encode())
        for key in sorted(header):
            begin, end = header[key]["data_offsets"]
            file.seek(8 + size + begin)
            crc = zlib.crc32(key.encode(), crc)
            for left in range(end - begin, 0, -_PIECE):
                crc = zlib.crc32(file.read(min(left, _PIECE)), crc)
        if int(metadata["crc32"]) != crc:
            raise DamagedFileError(f"{printable(path)} is damaged: its checksum does not match")
        return dict(header)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Convert errors while reading a file to DamagedFileError."""
    try:
        yield
    except (safetensors.SafetensorError, MemoryError, *WRONG_CONTENT) as error:
        raise DamagedFileError(f"{printable(path)} is damaged: {printable(error)}") from None


@contextmanager
def taken_from(path: Path) -> Iterator[None]:
    """Convert errors while using a file's content to DamagedFileError.

    Raises:
        DamagedFileError: if names are missing, or shapes or types are wrong.
    """
    try:
        yield
    except WRONG_CONTENT as error:
        raise DamagedFileError(f"{printable(path)} is damaged: it has unexpected content ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}", 120)


def _split(node: Any, key: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Move the arrays of a tree to a flat dictionary, and return the plain data that remain."""
    if isinstance(node, dict):
        split = {
            str(name): _split(child, f"{key}/{name}" if key else str(name), arrays) for name, child in node.items()
        }
        return {name: child for name, child in split.items() if child is not _MOVED}
    if hasattr(node, "detach"):
        node = node.detach().cpu().numpy()
    if isinstance(node, np.ndarray):
        arrays[key] = np.ascontiguousarray(node).reshape(node.shape)
        return _MOVED
    return node.item() if isinstance(node, np.generic) else node


_MOVED = object()


def _checksum(arrays: dict[str, np.ndarray[Any, Any]], plain: str) -> int:
    crc = zlib.crc32(plain.encode())
    for key in sorted(arrays):
        crc = zlib.crc32(arrays[key].reshape(-1).view(np.uint8).data, zlib.crc32(key.encode(), crc))  # without a copy
    return crc
