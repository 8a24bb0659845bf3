"""A user's environment is a trust boundary: what goes wrong inside it is said in one line, its trace kept in a file."""

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
"""Characters of an environment's own message that are repeated in the line."""


class EnvError(PrefrlError):
    """An environment raised an error, or gave something that its spaces or Gymnasium's API do not allow."""


def raised(env_id: str, doing: str, error: BaseException) -> EnvError:
    """The error for what an environment raised.

    Args:
        env_id: Its name.
        doing: What it was asked for, e.g. "step()".
        error: What it raised; the trace from the environment's own frame on goes to a file.
    """
    message = " ".join(str(error).split())[:_LONGEST]
    said = f"{type(error).__name__}: {message}" if message else type(error).__name__
    frames = own_frames(error)
    inside = frames and not _installed(frames[-1].filename)  # not where it was only called in a wrong way
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if inside else ""
    where = _keep(error, frames)
    return EnvError(
        f"the environment {env_id} failed in {doing}: {said}{place}" + (f"; the trace is in {where}" if where else "")
    )


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of a trace that are neither prefrl's nor an installed package's: the user's; else all but prefrl's."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [frame for frame in frames if _PACKAGE not in Path(frame.filename).parents]
    own = [frame for frame in foreign if not _installed(frame.filename)]
    return own or foreign


def _installed(filename: str) -> bool:
    parts = Path(filename).parts
    return "site-packages" in parts or "dist-packages" in parts or filename.startswith(os.path.dirname(os.__file__))


def _keep(error: BaseException, frames: list[traceback.FrameSummary]) -> str | None:
    """Write the trace to a new file; None where there is no room for one."""
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
