"""The checksum of an answer, by which a bit that turns is noticed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any


def checksum(said: Iterable[Any]) -> int:
    """The CRC-32 of an answer's row and of what its query is about."""
    return zlib.crc32(json.dumps(list(said), default=repr).encode())
