"""The benchmarks without POSIX features, which is simulated: prefrl was never run on Windows."""

import contextlib
import os
import subprocess
import sys
import textwrap

import psutil
import pytest
from prefrl_benchmarks import groups
from prefrl_benchmarks.executors import registry
from prefrl_benchmarks.executors.local import ProcessJob
from prefrl_benchmarks.measure.interleave import run_interleaved
from runs import DEADLINE, until

from prefrl.errors import UsageError

_POSIX_ONLY = """
import importlib, os, pkgutil, signal, sys
import prefrl_benchmarks
def names():
    walked = pkgutil.walk_packages(prefrl_benchmarks.__path__, "prefrl_benchmarks.")
    return [each.name for each in walked if not each.name.endswith(("__main__", ".cluster", ".slurm", "imitation_run"))]
for name in names():
    importlib.import_module(name)
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("fork", "killpg", "getpgid", "setsid", "nice", "getuid", "geteuid", "uname", "getloadavg", "WNOHANG",
             "sched_getaffinity", "sched_setaffinity"):
    delattr(os, name)
for name in ("SIGKILL", "SIGSTOP", "SIGCONT", "SIGUSR1", "SIGUSR2", "SIGHUP", "pthread_sigmask"):
    delattr(signal, name)
for name in names():
    importlib.reload(sys.modules[name])
print(len(names()))
"""


def test_every_module_is_imported_without_what_only_posix_has():
    command = [sys.executable, "-c", _POSIX_ONLY]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


@pytest.fixture(params=["groups", "one by one"])
def system(request, monkeypatch):
    """This system as it is, and without process groups."""
    if request.param == "one by one":
        for name in ("killpg", "sched_getaffinity", "sched_setaffinity"):
            monkeypatch.delattr(os, name, raising=False)


FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def family():
    """A process that leads a group, and its child."""
    leader = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, process_group=0)
    child = psutil.Process(int(leader.stdout.readline()))
    yield leader, child
    for each in (child, leader):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    leader.wait()
    leader.stdout.close()


@pytest.mark.usefixtures("system")
def test_a_process_is_paused_and_continues_with_all_that_it_started(family):
    leader, child = family
    both = [psutil.Process(leader.pid), child]
    groups.pause(leader.pid)
    until(lambda: all(each.status() == psutil.STATUS_STOPPED for each in both), "both paused")
    groups.go_on(leader.pid)
    until(lambda: all(each.status() != psutil.STATUS_STOPPED for each in both), "both go on")


@pytest.mark.usefixtures("system")
def test_a_cell_is_killed_with_all_that_it_started(family):
    leader, child = family
    ProcessJob(leader).kill()
    assert leader.returncode is not None
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child is gone")
    groups.kill(leader.pid)  # gone already: nothing happens


@pytest.mark.usefixtures("system")
def test_processes_run_interleaved():
    code = textwrap.dedent("""
        import time
        until = time.process_time() + 0.3
        while time.process_time() < until: pass
    """)
    ended = run_interleaved([lambda: subprocess.Popen([sys.executable, "-c", code], process_group=0)] * 2, 0.1)
    assert [each.code for each in ended] == [0, 0]
    assert all(len(each.spans) > 1 for each in ended)


def test_slurm_is_refused_where_it_does_not_run(monkeypatch):
    monkeypatch.delattr(registry.signal, "SIGUSR2")
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="does not run on Windows"):
        registry.find_executor("submitit")
