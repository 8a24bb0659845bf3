"""Run a process for a limited time."""

from __future__ import annotations

import subprocess
from contextlib import suppress

from prefrl.errors import PrefrlError
from prefrl_benchmarks import groups
from prefrl_benchmarks.measure.speed import Timed


def run_for(timed: Timed, seconds: float, grace: float = 0.0) -> bool:
    """Run a process and its child processes until they end or the time is up.

    Args:
        timed: The process.
        seconds: Time after which they are killed.
        grace: How long before that the process is asked to stop (SIGTERM).

    Returns:
        Whether it ended by itself.

    Raises:
        PrefrlError: if it failed by itself.
    """
    process = timed.start()
    with process:
        try:
            if process.wait(seconds - grace):
                raise PrefrlError(f"a run failed: {timed.last_words}")
            return True
        except subprocess.TimeoutExpired:
            if grace:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(grace)
            return False
        finally:
            if process.poll() is None:
                groups.kill(process.pid)
