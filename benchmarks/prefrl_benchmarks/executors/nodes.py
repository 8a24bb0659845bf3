"""A cell on another machine: its run directory travels there and back, so that nodes need share nothing.

A database on a network share is no safe place for labels; a node's own disk is.
"""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from prefrl.errors import PrefrlError
from prefrl.runs.directory import RunDirectory
from prefrl_benchmarks.cells import Cell, start_cell


class Returned(NamedTuple):
    """What comes back from a node."""

    code: int
    """The exit status of the cell's process."""
    run: bytes
    """Its run directory; empty where the node was lost."""
    log: bytes
    """What it said."""


class NodeRunner:
    """Runs one cell on a node."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = self._asked = False

    def run(self, cell: Cell, run: bytes) -> Returned:
        """Go on with a run to its end, or until it is stopped.

        Args:
            cell: The cell.
            run: Its run directory, packed.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            unpack(run, folder / cell.name)
            with start_cell(cell, folder, threads=1) as self._process:
                if self._stopped:
                    self.stop()
                code = self._process.wait()
            return Returned(code, pack(folder / cell.name), (folder / f"{cell.name}.log").read_bytes())

    def stop(self) -> None:
        """Ask the cell to stop after its round; asked again, it would not wait for that."""
        if self._process and not self._asked:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)
        self._stopped = True


def take_along(cell: Cell, folder: Path) -> bytes:
    """A cell's run directory as it is to travel; made where it is missing, so that every node has one configuration."""
    root = folder / cell.name
    if not root.exists():
        RunDirectory.create(root, cell.config)
    return pack(root)


def put_back(returned: Returned, cell: Cell, folder: Path) -> None:
    """Put what came back into the suite's folder."""
    if returned.run:
        unpack(returned.run, folder / cell.name)
    with (folder / f"{cell.name}.log").open("ab") as log:
        log.write(returned.log)


def pack(root: Path) -> bytes:
    """A folder as one block of bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        archive.add(root, arcname=".")
    return stream.getvalue()


def unpack(content: bytes, root: Path) -> None:
    """Put a packed folder where another may be; until it is whole, that one stays.

    Raises:
        PrefrlError: if it is damaged.
    """
    incoming = root.with_name(f".{root.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(incoming, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise PrefrlError(f"{root.name} came back damaged: {error}") from None
    shutil.rmtree(root, ignore_errors=True)
    incoming.rename(root)
