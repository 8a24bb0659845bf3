"""Cells on a Slurm cluster, through submitit: the extra `submitit`.

Nodes see the suite's folder, but each works on its own disk; it puts a cell back when that has ended or was stopped,
and when Slurm is about to take the node away (preemption, the time limit), which queues the cell again. Jobs outlive
the command that submitted them: begun again, it finds them by their numbers, which it has noted.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any, cast

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

from prefrl.errors import PrefrlError, UsageError
from prefrl.storage.files import read_json, write_json
from prefrl_benchmarks.cells import Cell, fingerprint
from prefrl_benchmarks.executors.local import Executor, Job
from prefrl_benchmarks.executors.nodes import NodeRunner, Returned, put_back, take_along

FOLDER = ".slurm"
"""In the suite's folder: scripts, what submitit passes to nodes and back, job numbers, requests to stop."""
_DEFAULTS = {"time": 24 * 60, "cpus_per_task": 1, "signal_delay_s": 180, "job_name": "prefrl"}
"""Minutes until a cell is put back and queued again, cores, seconds that putting it back may take."""
_RETURNS = 1_000
"""How often a cell may run into its time limit."""
_POLL_SECONDS, _ASK_SECONDS = 1.0, 20.0
"""Between two looks for a result, and between two questions to Slurm."""
_AT_WORK = {"PENDING", "RUNNING", "REQUEUED", "REQUEUE_HOLD", "COMPLETING", "CONFIGURING", "PREEMPTED", "SUSPENDED"}


class NodeCell:
    """What a node does.

    Slurm sends its signals to every process of a job. SIGTERM says that the node is lost: the cell, which hears it too,
    stops after its round and is put back, and no result is left. SIGUSR2 says, through submitit, that there is time
    for a checkpoint and another turn.
    """

    def __init__(self) -> None:
        self._runner: NodeRunner | None = None
        self._code: Future[int] | None = None
        self._lost = False

    def __call__(self, cell: Cell, folder: Path) -> int:
        """Run a cell to its end, or until somebody wants it stopped; its exit status."""
        self._runner = NodeRunner()
        signal.signal(signal.SIGTERM, self._lose)
        with ThreadPoolExecutor(1) as beside:  # this thread has to hear the signals
            self._code = beside.submit(self._run, cell, folder)
            while not self._code.done():
                wait([self._code], timeout=_POLL_SECONDS)
                if _wish(cell, folder).exists() and not self._lost:
                    self._runner.stop()
        if self._lost:
            sys.exit("the node was taken away")
        return self._code.result()

    def _lose(self, number: int, frame: object) -> None:
        self._lost = True

    def _run(self, cell: Cell, folder: Path) -> int:
        assert self._runner is not None
        # The cell is born deaf to what is for submitit alone, and would end it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        returned = self._runner.run(cell, take_along(cell, folder))
        put_back(returned, cell, folder)
        return returned.code

    def checkpoint(self, cell: Cell, folder: Path) -> submitit.helpers.DelayedSubmission | None:
        """Put the cell back; submitit calls this when the node is about to be taken, and queues what it returns."""
        if self._runner and self._code:
            if not self._lost:
                self._runner.stop()
            self._code.result()
        return None if _wish(cell, folder).exists() else submitit.helpers.DelayedSubmission(NodeCell(), cell, folder)


class SlurmJob:
    """A cell somewhere on the cluster, or waiting for a node."""

    def __init__(self, cell: Cell, folder: Path, executor: submitit.SlurmExecutor) -> None:
        self._cell, self._folder = cell, folder.resolve()
        self._note = self._folder / FOLDER / f"{cell.name}.json"
        self._code: int | None = None
        self._next_look = self._next_question = 0.0
        wish = _wish(cell, self._folder)
        wish.unlink(missing_ok=True)
        self._job = self._found() or self._submitted(executor)

    def _found(self) -> submitit.SlurmJob[int] | None:
        """The job that an earlier command submitted for this cell, if it is still there."""
        if not self._note.exists():
            return None
        note = read_json(self._note)
        job: submitit.SlurmJob[int] = submitit.SlurmJob(self._folder / FOLDER, note["job"])
        if not _at_work(job.job_id):
            return None
        if note["fingerprint"] == fingerprint(self._cell.config):
            return job
        job.cancel(check=False)  # of settings that are no more
        return None

    def _submitted(self, executor: submitit.SlurmExecutor) -> submitit.SlurmJob[int]:
        take_along(self._cell, self._folder)  # here, so that every node runs the same configuration
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # what sbatch says is in the error too
                submitted = executor.submit(NodeCell(), self._cell, self._folder)
        except (FailedJobError, FailedSubmissionError) as error:
            said = [line for line in str(error).splitlines() if "error" in line]
            raise PrefrlError(
                f"Slurm does not take the job: {said[-1].removeprefix('sbatch: error: ') if said else error}"
            ) from None
        job = cast("submitit.SlurmJob[int]", submitted)
        write_json(self._note, {"job": job.job_id, "fingerprint": fingerprint(self._cell.config)})
        return job

    def poll(self) -> int | None:
        """Its exit status; None while it runs or waits for a node."""
        now = time.monotonic()
        if self._code is None and now > self._next_look:
            self._next_look = now + _POLL_SECONDS
            # Not `done`, which asks Slurm's accounting: many a cluster has none.
            if self._job.paths.result_pickle.exists():
                self._code = self._take()
            elif now > self._next_question:
                self._next_question = now + _ASK_SECONDS
                if not _at_work(self._job.job_id):
                    self._code = self._take()
        return self._code

    def _take(self) -> int:
        self._note.unlink(missing_ok=True)
        state = ""
        try:
            if self._job.paths.result_pickle.exists():
                code: int = self._job.result()
                return code
        except (FailedJobError, UncompletedJobError) as error:
            state = str(error).strip().splitlines()[-1]
        lost = f"prefrl: lost on the cluster: job {self._job.job_id} {state or 'has ended without a result'}\n"
        put_back(Returned(1, b"", lost.encode()), self._cell, self._folder)
        return 1

    def stop(self) -> None:
        """Ask it to stop, so that it can be resumed; one that waits for a node waits no more."""
        _wish(self._cell, self._folder).touch()
        if _state(self._job.job_id) == "PENDING":
            self._job.cancel(check=False)
        self._next_question = 0.0

    def kill(self) -> None:
        """End it; what it did there is lost."""
        self._job.cancel(check=False)
        self._note.unlink(missing_ok=True)


def slurm_cluster(parameters: dict[str, Any]) -> Executor:
    """Cells as Slurm's jobs.

    Args:
        parameters: What to ask Slurm for, as submitit names it: `partition`, `time` in minutes, `mem`, ...

    Raises:
        UsageError: if there is no Slurm here, or a parameter is none of its.
    """
    if missing := [name for name in ("sbatch", "srun", "squeue", "scancel") if shutil.which(name) is None]:
        raise UsageError(f"--executor submitit needs a machine that submits to Slurm: it has no {missing[0]}")

    @cache
    def executor(folder: Path) -> submitit.SlurmExecutor:
        made = submitit.SlurmExecutor(folder / FOLDER, max_num_timeout=_RETURNS)
        made.update_parameters(**_DEFAULTS | parameters)
        return made

    try:
        executor(Path("/nowhere"))  # makes no folder; says now what is wrong with the parameters
    except (ValueError, TypeError) as error:
        raise UsageError(f"--slurm: {str(error).splitlines()[0]}") from None

    def start(cell: Cell, folder: Path) -> Job:
        return SlurmJob(cell, folder, executor(folder.resolve()))

    return start


def _wish(cell: Cell, folder: Path) -> Path:
    """The file that asks a node to stop a cell."""
    return folder / FOLDER / f"{cell.name}.stop"


def _state(job: str) -> str | None:
    """Slurm's word for a job's state; empty where it knows no such job, None where it cannot say."""
    command = ["squeue", "--noheader", "--states", "all", "--jobs", job, "--format", "%T"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return None
    return asked.stdout.strip()


def _at_work(job: str) -> bool:
    """Whether a job waits or runs; Slurm's not answering is no sign that it has ended."""
    state = _state(job)
    return state is None or state in _AT_WORK
