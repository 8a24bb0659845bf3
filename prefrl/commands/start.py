"""The entry point of `prefrl`. This file imports nothing slow.

Ctrl-C while the command line is being imported would print a traceback, or be lost: Python ignores exceptions in some
of the functions that an import calls. So it ends the process at once. There is nothing to put in order yet.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Import the command line and run it."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not in a shell's background job
    if interruptible:
        signal.signal(signal.SIGINT, _end)
    from prefrl.commands import cli  # noqa: PLC0415 - see above

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


def _end(number: int, frame: object) -> None:
    os.write(sys.stderr.fileno(), b"prefrl: stopped\n")
    os._exit(1)
