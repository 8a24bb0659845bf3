"""Signatures of the user's own runs, with a key that never leaves the user's state folder."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
import sys
from pathlib import Path
from typing import Any

_BYTES = 32


def signature(content: Any) -> str | None:
    """Sign plain data with the user's key; return None if there is no key and none can be created."""
    key = _key()
    return None if key is None else hmac.new(key, canonical(content), hashlib.sha256).hexdigest()


def is_signed(content: Any, claimed: str) -> bool:
    """Return whether a signature of plain data was made with the user's key. This does not create a key."""
    key = _read(key_file())
    if key is None or not claimed.isascii():
        return False
    return hmac.compare_digest(hmac.new(key, canonical(content), hashlib.sha256).hexdigest(), claimed)


def canonical(content: Any) -> bytes:
    """Serialise plain data canonically: equal data give equal bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def key_file() -> Path | None:
    """Return the path of the key: `$XDG_STATE_HOME/prefrl/key`, by default in `~/.local/state`; None without a home."""
    named = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME", "")
    if os.path.isabs(named):
        return Path(named) / "prefrl" / "key"
    try:
        return Path.home() / ".local" / "state" / "prefrl" / "key"
    except RuntimeError:
        return None


def _key() -> bytes | None:
    """Return the key; it is created on first use."""
    path = key_file()
    if path is None:
        return None
    with contextlib.suppress(OSError):
        if not path.exists():
            _make(path)
    return _read(path)


def _make(path: Path) -> None:
    """Create a key that only the user can read. If several processes do so at once, the first key is kept."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine = path.with_name(f".key.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(mine, path)
    finally:
        mine.unlink(missing_ok=True)


def _read(path: Path | None) -> bytes | None:
    """Read the key; return None if other users could read it, or if it is a link."""
    if path is None:
        return None
    try:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            private = sys.platform == "win32" or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)
            key = file.read(_BYTES + 1) if stat.S_ISREG(status.st_mode) and private else b""
    except OSError:
        return None
    return key if len(key) == _BYTES else None
