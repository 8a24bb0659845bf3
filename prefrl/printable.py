r"""Make untrusted text safe to print as one line on a terminal.

Names, reasons, tasks, labellers and states may come from files that someone else made. Printed unchanged, an escape
sequence could change the screen or its title, a newline could forge a line of output, a bidirectional control could
reorder the text, and a lone surrogate could not be encoded.
"""

import shlex
import sys
from collections.abc import Iterable

LIMIT = 500
"""Default limit for the length of a text, in characters."""
LONGEST_LINE = 5000
"""Limit for the length of a line of output, which may contain paths."""


def printable(text: object, limit: int = LIMIT) -> str:
    r"""Return ``text`` as one line, with unprintable characters replaced by escapes such as ``\x1b``.

    Letters, marks, digits, punctuation and symbols of every script, and spaces, are unchanged. Control characters,
    newlines, invisible and bidirectional format characters, private and unassigned code points and lone surrogates
    are replaced by Python's escape sequences.

    Args:
        text: The text; other objects are converted with ``str``.
        limit: Maximum number of characters returned; a longer text is cut and ends in "…".
    """
    head = str(text)
    shown = "".join(c if c.isprintable() else _escape(c) for c in head[: limit + 1])
    return shown if len(shown) <= limit else shown[: max(limit - 1, 0)] + "…"


def say(lines: Iterable[str]) -> None:
    """Print lines, each made printable."""
    print("\n".join(printable(line, LONGEST_LINE) for line in lines))


def complain(line: str) -> None:
    """Print a line to standard error, made printable."""
    print(printable(line, LONGEST_LINE), file=sys.stderr)


def command(*words: object) -> str:
    """Return a `prefrl` command for a person to copy, quoted for the shell.

    Quoting matters: a folder may be called ``$(reboot)``.
    """
    return shlex.join(["prefrl", *(printable(word, LONGEST_LINE) for word in words)])


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
