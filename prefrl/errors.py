"""Errors that a user can cause. Each is reported as one line, with an exit status."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

from prefrl.printable import LONGEST_LINE, printable

_LONGEST = 100
"""Characters of an unknown name that are compared with known names. A name from a file may be very long."""


class PrefrlError(Exception):
    """An error that one line explains; the command exits with status 1.

    The message is made printable, because it may contain paths and text from untrusted files.
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        """Store the message as one printable line."""
        super().__init__(printable(message, LONGEST_LINE))


class UsageError(PrefrlError):
    """An invalid argument; the command exits with status 2."""

    exit_code = 2


class DamagedFileError(PrefrlError):
    """A file that is truncated, altered or otherwise unreadable."""


class UnknownNameError(UsageError):
    """A name that this installation does not know."""


def unknown(kind: str, name: str, known: Iterable[str], *, also: Iterable[str] = ()) -> UnknownNameError:
    """Return an error for an unknown name, which suggests the nearest known names.

    Args:
        kind: The kind of name, e.g. "task".
        name: The unknown name.
        known: The known names; all are listed if none is near.
        also: Further known names, which are suggested but never listed.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name[:_LONGEST], [*names, *also], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UnknownNameError(f"unknown {kind} {printable(repr(name), 80)}; {hint}")


def near(name: str, known: Iterable[str]) -> str:
    """Return a suffix for a message about an unknown name: the nearest known name, or an empty string."""
    found = difflib.get_close_matches(name[:_LONGEST], list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error or one of its causes, from the system or from SQLite, is a full disk."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "database or disk is full" in str(cause) or "No space left on device" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def explain(error: BaseException) -> str:
    """Describe an error in one line."""
    if is_disk_full(error) and not isinstance(error, PrefrlError):
        return "the disk is full; nothing stored is lost"
    if isinstance(error, PrefrlError):
        return str(error)
    return printable(f"{type(error).__name__}: {error}".splitlines()[0])
