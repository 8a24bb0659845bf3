"""Checksums of answers, which detect bit errors."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any


def checksum(said: Iterable[Any]) -> int:
    """Compute the CRC-32 of an answer's row and of its query's segments."""
    return zlib.crc32(json.dumps(list(said), default=repr).encode())
