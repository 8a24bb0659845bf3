"""Errors of environments: reported in one line, with the traceback in a file."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path

from prefrl.errors import PrefrlError
from prefrl.printable import printable

_PACKAGE = Path(__file__).parents[1]
_LONGEST = 200
"""Maximum number of characters quoted from an environment's error message."""


class EnvError(PrefrlError):
    """An environment raised an error, or violated its spaces or Gymnasium's API."""


def raised(env_id: str, doing: str, error: BaseException) -> EnvError:
    """Convert an error of an environment, and write its traceback to a file.

    Args:
        env_id: The environment's id.
        doing: What was called, e.g. "step()".
        error: The error that was raised.
    """
    message = " ".join(str(error).split())[:_LONGEST]
    said = f"{type(error).__name__}: {message}" if message else type(error).__name__
    frames = own_frames(error)
    inside = frames and not _installed(frames[-1].filename)  # no location if the environment was called incorrectly
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if inside else ""
    where = _keep(error, frames)
    return EnvError(
        f"the environment {env_id} failed in {doing}: {said}{place}" + (f"; the trace is in {where}" if where else "")
    )


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the traceback's frames in user code or, if there are none, all frames outside prefrl."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [frame for frame in frames if _PACKAGE not in Path(frame.filename).parents]
    own = [frame for frame in foreign if not _installed(frame.filename)]
    return own or foreign


def _installed(filename: str) -> bool:
    parts = Path(filename).parts
    return "site-packages" in parts or "dist-packages" in parts or filename.startswith(os.path.dirname(os.__file__))


def _keep(error: BaseException, frames: list[traceback.FrameSummary]) -> str | None:
    """Write the traceback to a new temporary file; return its path, or None if it cannot be written."""
    lines = ["The environment's own part of the trace:\n", *traceback.format_list(frames)]
    lines += [*traceback.format_exception_only(error), "\nThe whole trace:\n", *traceback.format_exception(error)]
    try:
        handle, name = tempfile.mkstemp(prefix="prefrl-trace-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(lines)
    except OSError as failed:
        print(f"the trace cannot be written: {printable(failed.strerror)}", file=sys.stderr)
        return None
    return name
