"""What a user can cause, and how the program says so: one line, and an exit status."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

from prefrl.printable import LONGEST_LINE, printable


class PrefrlError(Exception):
    """Something went wrong that one line can explain; the command exits with status 1.

    The message is made printable here, since it may name paths and quote what others wrote.
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        """Take the message, as one line."""
        super().__init__(printable(message, LONGEST_LINE))


class UsageError(PrefrlError):
    """An argument that cannot be used; the command exits with status 2."""

    exit_code = 2


class DamagedFileError(PrefrlError):
    """A file of ours that is truncated or altered."""


def unknown(kind: str, name: str, known: Iterable[str], *, also: Iterable[str] = ()) -> UsageError:
    """An error for a name that is not in a table, with the nearest names that are.

    Args:
        kind: What the name should have been, e.g. "task".
        name: What was given.
        known: The names that exist; all are listed where none is near.
        also: Further names that exist, too many to list.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, [*names, *also], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UsageError(f"unknown {kind} {printable(repr(name), 80)}; {hint}")


def near(name: str, known: Iterable[str]) -> str:
    """What to add to a message about a name that does not exist: the nearest that does; nothing where none is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a full disk: the system's own, or SQLite's report of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "database or disk is full" in str(cause) or "No space left on device" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def explain(error: BaseException) -> str:
    """One line for a person: what went wrong."""
    if is_disk_full(error) and not isinstance(error, PrefrlError):
        return "the disk is full; nothing stored is lost"
    if isinstance(error, PrefrlError):
        return str(error)
    return printable(f"{type(error).__name__}: {error}".splitlines()[0])
