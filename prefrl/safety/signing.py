"""Signatures that tell this person's own runs from others': by a key that never leaves the user's state folder."""

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
    """The signature of plain data under this person's key; None where there is no key and none can be made."""
    key = _key()
    return None if key is None else hmac.new(key, canonical(content), hashlib.sha256).hexdigest()


def is_signed(content: Any, claimed: str) -> bool:
    """Whether this person's key made the signature of exactly these data; no key is made to find out."""
    key = _read(key_file())
    if key is None or not claimed.isascii():
        return False
    return hmac.compare_digest(hmac.new(key, canonical(content), hashlib.sha256).hexdigest(), claimed)


def canonical(content: Any) -> bytes:
    """Plain data as bytes: equal for equal data, different for different ones."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def key_file() -> Path | None:
    """Where the key lies: `$XDG_STATE_HOME/prefrl/key`, by default in `~/.local/state`; None without a home."""
    named = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME", "")
    if os.path.isabs(named):
        return Path(named) / "prefrl" / "key"
    try:
        return Path.home() / ".local" / "state" / "prefrl" / "key"
    except RuntimeError:
        return None


def _key() -> bytes | None:
    """The key; made on first use."""
    path = key_file()
    if path is None:
        return None
    with contextlib.suppress(OSError):
        if not path.exists():
            _make(path)
    return _read(path)


def _make(path: Path) -> None:
    """Write a key that nobody else may read. Of several processes that do so at once, the first one's stays."""
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
    """The key, if it is one that others can neither read nor replace by a link."""
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
