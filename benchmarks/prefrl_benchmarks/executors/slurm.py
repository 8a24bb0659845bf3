"""Run cells on a Slurm cluster through submitit. Needs the extra `submitit`.

Nodes share the suite's folder, but each works on its local disk. It copies the run back when the cell has ended or was
stopped, and before Slurm takes the node away (preemption, time limit); the cell is then queued again. Jobs outlive the
command that submitted them: job ids are stored, so that a restarted command finds its jobs.
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
from prefrl_benchmarks.executors.job import Executor, Job
from prefrl_benchmarks.executors.nodes import NodeRunner, Returned, put_back, take_along

FOLDER = ".slurm"
"""Folder in the suite's folder for scripts, submitit's files, job ids and stop requests."""
_DEFAULTS = {"time": 24 * 60, "cpus_per_task": 1, "signal_delay_s": 180, "job_name": "prefrl"}
"""Time limit in minutes, cores, and seconds reserved for copying a run back before the limit."""
_RETURNS = 1_000
"""Maximum number of times a cell may reach its time limit."""
_POLL_SECONDS, _ASK_SECONDS = 1.0, 20.0
"""Seconds between checks for a result file, and between queries to Slurm."""
_AT_WORK = {"PENDING", "RUNNING", "REQUEUED", "REQUEUE_HOLD", "COMPLETING", "CONFIGURING", "PREEMPTED", "SUSPENDED"}


class NodeCell:
    """The job that runs on a node.

    Slurm sends signals to every process of a job. On SIGTERM the node is lost: the cell receives the signal too, stops
    after its current round and is copied back, and the job leaves no result. On SIGUSR2, which submitit handles, there
    is time to stop cleanly, and the cell is queued again.
    """

    def __init__(self) -> None:
        self._runner: NodeRunner | None = None
        self._code: Future[int] | None = None
        self._lost = False

    def __call__(self, cell: Cell, folder: Path) -> int:
        """Run a cell until it ends or a stop is requested. Returns the exit status."""
        self._runner = NodeRunner()
        signal.signal(signal.SIGTERM, self._lose)
        with ThreadPoolExecutor(1) as pool:  # the main thread must stay free to handle signals
            self._code = pool.submit(self._run, cell, folder)
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
        # Block SIGUSR2 in the cell: it is meant for submitit and would end the cell.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        returned = self._runner.run(cell, take_along(cell, folder))
        put_back(returned, cell, folder)
        return returned.code

    def checkpoint(self, cell: Cell, folder: Path) -> submitit.helpers.DelayedSubmission | None:
        """Copy the run back. submitit calls this before the node is taken away, and queues the returned job."""
        if self._runner and self._code:
            if not self._lost:
                self._runner.stop()
            self._code.result()
        return None if _wish(cell, folder).exists() else submitit.helpers.DelayedSubmission(NodeCell(), cell, folder)


class SlurmJob:
    """A cell that runs on the cluster or waits for a node."""

    def __init__(self, cell: Cell, folder: Path, executor: submitit.SlurmExecutor) -> None:
        self._cell, self._folder = cell, folder.resolve()
        self._note = self._folder / FOLDER / f"{cell.name}.json"
        self._code: int | None = None
        self._next_look = self._next_question = 0.0
        wish = _wish(cell, self._folder)
        wish.unlink(missing_ok=True)
        self._job = self._found() or self._submitted(executor)

    def _found(self) -> submitit.SlurmJob[int] | None:
        """The job that an earlier command submitted for this cell, if it still exists."""
        if not self._note.exists():
            return None
        note = read_json(self._note)
        job: submitit.SlurmJob[int] = submitit.SlurmJob(self._folder / FOLDER, note["job"])
        if not _at_work(job.job_id):
            return None
        if note["fingerprint"] == fingerprint(self._cell.config):
            return job
        job.cancel(check=False)  # its settings have changed since
        return None

    def _submitted(self, executor: submitit.SlurmExecutor) -> submitit.SlurmJob[int]:
        take_along(self._cell, self._folder)  # created here, so that all nodes use the same configuration
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # the error contains the output of sbatch
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
        """Exit status; None while the cell runs or waits for a node."""
        now = time.monotonic()
        if self._code is None and now > self._next_look:
            self._next_look = now + _POLL_SECONDS
            # Not `done`, which needs Slurm's accounting; many clusters have none.
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
        """Ask the cell to stop so that it can be resumed; a waiting job is cancelled."""
        _wish(self._cell, self._folder).touch()
        if _state(self._job.job_id) == "PENDING":
            self._job.cancel(check=False)
        self._next_question = 0.0

    def kill(self) -> None:
        """Cancel the job; its work on the node is lost."""
        self._job.cancel(check=False)
        self._note.unlink(missing_ok=True)


def slurm_cluster(parameters: dict[str, Any] | None) -> Executor:
    """An executor that submits cells as Slurm jobs.

    Args:
        parameters: Job parameters by submitit's names: `partition`, `time` in minutes, `mem`, ...

    Raises:
        UsageError: if Slurm's commands are not installed, or a parameter is unknown.
    """
    if missing := [name for name in ("sbatch", "srun", "squeue", "scancel") if shutil.which(name) is None]:
        raise UsageError(f"--executor submitit needs a machine that submits to Slurm: it has no {missing[0]}")

    @cache
    def executor(folder: Path) -> submitit.SlurmExecutor:
        made = submitit.SlurmExecutor(folder / FOLDER, max_num_timeout=_RETURNS)
        made.update_parameters(**_DEFAULTS | (parameters or {}))
        return made

    try:
        executor(Path("/nowhere"))  # creates no folder; checks the parameters
    except (ValueError, TypeError) as error:
        raise UsageError(f"--slurm: {str(error).splitlines()[0]}") from None

    def start(cell: Cell, folder: Path) -> Job:
        return SlurmJob(cell, folder, executor(folder.resolve()))

    return start


def _wish(cell: Cell, folder: Path) -> Path:
    """The file whose existence asks a node to stop a cell."""
    return folder / FOLDER / f"{cell.name}.stop"


def _state(job: str) -> str | None:
    """Slurm's state of a job; empty if the job is unknown, None if Slurm does not answer."""
    command = ["squeue", "--noheader", "--states", "all", "--jobs", job, "--format", "%T"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return None
    return asked.stdout.strip()


def _at_work(job: str) -> bool:
    """Whether a job waits or runs; if Slurm does not answer, the job counts as running."""
    state = _state(job)
    return state is None or state in _AT_WORK
