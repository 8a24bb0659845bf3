"""A scripted labeller in its own process, which tests may kill. It prints each answer once it is stored.

`python labeller.py RUN NAME`
"""

import contextlib
import sys
import time
from pathlib import Path

from prefrl_benchmarks.measure.people import better

from clip_viewer.session import Session
from prefrl.errors import UsageError
from prefrl.feedback import leases

LEASE_SECONDS = 2.0
"""Short, so that a test need not wait long for what a killed labeller had in hand."""
_PAUSE = 0.1


def label(root: Path, name: str) -> None:
    """Answer what there is by the true reward until the run is finished."""
    session = Session(root, name)
    while not session.run.finished:
        for lease in session.leases(2):
            assert session.load(lease) is not None
            judgement = better(session.clips, lease)
            with contextlib.suppress(UsageError):  # the run has finished meanwhile
                if session.answer(lease, judgement, 0.1):
                    print(lease.query_id, lease.segments[0], judgement.value, flush=True)
            time.sleep(_PAUSE)
        time.sleep(_PAUSE)
    session.close()


if __name__ == "__main__":
    leases.LEASE_SECONDS = LEASE_SECONDS
    label(Path(sys.argv[1]), sys.argv[2])
