"""The process of a cell: `prefrl`, which ends when its parent ends."""

from __future__ import annotations

import os
import sys
import threading

from prefrl.commands.cli import main


def end_with_parent() -> None:
    """End this process when its parent ends.

    The parent holds the other end of standard input. That end is closed even if the parent is killed.
    """
    held = os.dup(sys.stdin.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    threading.Thread(target=_die_with_parent, args=(held,), daemon=True).start()


def _die_with_parent(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    end_with_parent()
    main()
