r"""Text that others wrote, made safe for one line on a terminal.

Names, reasons, tasks, labellers and states come from files that anybody may have made. Printed as they are, an escape
sequence repaints the screen or sets its title, a newline forges a line of ours, a bidirectional control reorders what
is read, and a lone surrogate cannot be encoded at all.
"""

import shlex
import sys
from collections.abc import Iterable

LIMIT = 500
"""The most characters of one text that are shown, unless told otherwise."""
LONGEST_LINE = 5000
"""... and of one line of ours, which may hold a path or two."""


def printable(text: object, limit: int = LIMIT) -> str:
    r"""Return ``text`` on one line, with everything a terminal might act on written as an escape such as ``\x1b``.

    Letters, marks, digits, punctuation and symbols of every script stay as they are, and so does the space. Controls,
    newlines, invisible and bidirectional format characters, private and unassigned code points and lone surrogates
    become the escape that Python would write.

    Args:
        text: What to show; anything that is no ``str`` is shown as ``str(text)``.
        limit: The most characters returned; a longer text is cut, and ends in "…".
    """
    head = str(text)
    shown = "".join(c if c.isprintable() else _escape(c) for c in head[: limit + 1])
    return shown if len(shown) <= limit else shown[: max(limit - 1, 0)] + "…"


def say(lines: Iterable[str]) -> None:
    """Print lines, each of which stays one, whatever is in it."""
    print("\n".join(printable(line, LONGEST_LINE) for line in lines))


def complain(line: str) -> None:
    """Print a line to standard error; it stays one, whatever is in it."""
    print(printable(line, LONGEST_LINE), file=sys.stderr)


def command(*words: object) -> str:
    """A command of ours for a person to copy, with every word quoted for the shell where it must be.

    A folder may be called ``$(reboot)``.
    """
    return shlex.join(["prefrl", *(printable(word, LONGEST_LINE) for word in words)])


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
