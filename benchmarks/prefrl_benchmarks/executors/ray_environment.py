"""Sets the environment in which Ray is imported."""

from __future__ import annotations

import os
import secrets

from prefrl_benchmarks.executors.job import Executor


def ray_executor(address: str | None) -> Executor:
    """Return an executor for a Ray cluster; arguments and errors as for `ray_cluster`."""
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ |= _alone()
    from prefrl_benchmarks.executors.cluster import ray_cluster  # noqa: PLC0415 - Ray reads the variables on import

    return ray_cluster(address)


def _alone() -> dict[str, str]:
    """Environment variables that make Ray serve this machine only.

    By default Ray's servers listen on all interfaces, and anyone who can reach them can execute code.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name, on Linux it selects the loopback address
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
