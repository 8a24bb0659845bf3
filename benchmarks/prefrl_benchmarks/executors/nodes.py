"""Run a cell on another machine. The run directory is copied there and back, so nodes need no shared folder.

SQLite databases are unsafe on network shares, so each node works on its local disk.
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
from prefrl_benchmarks.cells import Cell, start_cell


class Returned(NamedTuple):
    """The result of a cell on a node."""

    code: int
    """Exit status of the cell's process."""
    run: bytes
    """The packed run directory; empty if the node was lost."""
    log: bytes
    """The log."""


class NodeRunner:
    """Runs one cell on a node."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = self._asked = False

    def run(self, cell: Cell, run: bytes) -> Returned:
        """Continue a run until it ends or is stopped.

        Args:
            cell: The cell.
            run: Packed run directory.
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
        """Ask the cell to stop after its current round. Only one signal is sent: a second one would stop it at once."""
        if self._process and not self._asked:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)
        self._stopped = True


def take_along(cell: Cell, folder: Path) -> bytes:
    """Pack a cell's run directory. A missing one is created here, so that all nodes use the same configuration.

    What it takes from other runs is in its own directory then.
    """
    root = folder / cell.name
    if not root.exists():
        from prefrl.api import create_run  # with PyTorch, which a node need not load beside its cell

        create_run(cell.request_in(folder))
    return pack(root)


def put_back(returned: Returned, cell: Cell, folder: Path) -> None:
    """Store the returned run in the suite's folder."""
    if returned.run:
        unpack(returned.run, folder / cell.name)
    with (folder / f"{cell.name}.log").open("ab") as log:
        log.write(returned.log)


def pack(root: Path) -> bytes:
    """Pack a folder into a compressed tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        archive.add(root, arcname=".")
    return stream.getvalue()


def unpack(content: bytes, root: Path) -> None:
    """Unpack a folder. An existing folder is replaced only after unpacking has succeeded.

    Raises:
        PrefrlError: if the archive is damaged.
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
