"""Executors by name. Add your own as an entry."""

from __future__ import annotations

import importlib.util
import signal
from dataclasses import dataclass
from typing import Any

from prefrl.errors import UsageError
from prefrl.registry import Registry, located
from prefrl_benchmarks.executors.job import Executor


@dataclass(frozen=True)
class ExecutorKind:
    """How to make an executor."""

    factory: str
    """"module:name" of the function that returns it. Its only argument is the value of `option`, if it has one."""
    option: str | None = None
    """The option of `prefrl bench run` that belongs to it."""
    library: str | None = None
    """The extra of this package that it needs, and the module that the extra installs."""
    needs: str | None = None
    """A signal that this system must have; Windows has few."""


EXECUTORS: Registry[ExecutorKind] = Registry(
    "executor",
    {
        "process": ExecutorKind("prefrl_benchmarks.executors.local:processes"),
        "ray": ExecutorKind("prefrl_benchmarks.executors.ray_environment:ray_executor", "address", "ray"),
        "submitit": ExecutorKind("prefrl_benchmarks.executors.slurm:slurm_cluster", "slurm", "submitit", "SIGUSR2"),
    },
)


def find_executor(name: str, **options: Any) -> Executor:
    """Return an executor.

    Args:
        name: A name of `EXECUTORS`.
        **options: Values of executors' options; those that are empty were not given.

    Raises:
        UsageError: if the name is unknown, the executor's library is not installed, it does not run on this system, no
            cluster answers, or an option belongs to another executor.
    """
    kind = EXECUTORS[name]
    for other, owner in EXECUTORS.items():
        if owner.option and owner.option != kind.option and options.get(owner.option):
            raise UsageError(f"--{owner.option} is for --executor {other}")
    if kind.needs and not hasattr(signal, kind.needs):
        raise UsageError(f"--executor {name} does not run on Windows")
    if kind.library and importlib.util.find_spec(kind.library) is None:
        raise UsageError(f"--executor {name} needs its library: pip install 'prefrl[{kind.library}]'")
    executor: Executor = located(kind.factory)(*([options.get(kind.option)] if kind.option else []))
    return executor
