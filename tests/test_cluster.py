"""Cells on a Ray cluster. Most tests are skipped without the extra `ray`."""

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from prefrl_benchmarks.executors import registry as executors
from prefrl_benchmarks.executors.nodes import pack, unpack
from runs import DEADLINE, prefrl, progress, refused, summary, until

from prefrl.errors import PrefrlError

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra `ray` is not installed")
PORT = 6397
SUITE = """
tasks = ["reacher"]
seeds = [0, 1]
steps = 12_000
[variants.true]
teacher = "none"
"""
# Ray would write a token into the home directory, which nodes of other homes lack.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",  # 15 by default, with which cells starve beside other tests
}


def test_a_node_loads_no_torch_beside_its_cell():
    """It takes two seconds and hundreds of megabytes."""
    script = "import sys, prefrl_benchmarks.executors.nodes; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_ray_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: None)
    done = prefrl("bench", "run", "smoke", "--out", tmp_path / "out", "--executor", "ray")
    assert "pip install 'prefrl[ray]'" in refused(done, 2)
    assert not (tmp_path / "out").exists()


@with_ray
@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "127.0.0.1:port"])
def test_an_address_where_nothing_answers(tmp_path, address):
    done = prefrl("bench", "run", "smoke", "--out", tmp_path / "out", "--executor", "ray", "--address", address)
    assert f"no Ray cluster answers at {address}" in refused(done, 2)


def test_a_run_directory_travels_whole(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "clips").mkdir(parents=True)
    (one / "clips" / "1").write_bytes(b"\x00\x01")
    other.mkdir()
    (other / "old").touch()
    unpack(pack(one), other)
    assert [path.name for path in other.rglob("*")] == ["clips", "1"]
    assert (other / "clips" / "1").read_bytes() == b"\x00\x01"
    with pytest.raises(PrefrlError, match="came back damaged"):
        unpack(pack(one)[:20], other)
    assert (other / "clips" / "1").exists()


@contextlib.contextmanager
def node(log: Path, *arguments: str):
    """A node of a cluster on this machine; its processes are ended one by one, since `ray stop` ends everybody's."""
    command = [str(Path(sys.executable).with_name("ray")), "start", *arguments, "--num-cpus", "1", "--block"]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | ENVIRONMENT)
    try:
        until(lambda: "--block" in log.read_text(), "a node")
        yield process
    finally:
        end(process)


def end(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        for each in [*parent.children(recursive=True), parent]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait(DEADLINE)


def runs_of(process):
    """The cells that a node has at work."""
    found = []
    for each in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [each] if "prefrl_benchmarks.executors.child" in each.cmdline() else []
    return found


@with_ray
@pytest.mark.slow
def test_a_node_that_is_killed_costs_no_cell(tmp_path):
    suite, out = tmp_path / "two.toml", tmp_path / "out"
    suite.write_text(SUITE)
    address = f"127.0.0.1:{PORT}"
    with (
        node(tmp_path / "head.log", "--head", "--port", str(PORT), "--include-dashboard=false"),
        node(tmp_path / "second.log", "--address", address) as second,
    ):
        flags = ["--out", str(out), "--jobs", "2", "--executor", "ray", "--address", address]
        command = [sys.executable, "-m", "prefrl", "bench", "run", str(suite), *flags]
        with subprocess.Popen(command, env=os.environ | ENVIRONMENT) as process:
            until(lambda: process.poll() is not None or runs_of(second), "a cell", 3 * DEADLINE, every=0.2)
            time.sleep(2)
            assert runs_of(second)
            end(second)
            assert process.wait(3 * DEADLINE) == 0
    for seed in (0, 1):
        root = out / f"reacher_ppo_none_s{seed}"
        assert summary(root)["steps"] >= 12_000
        assert progress(root)["state"] == "training"


LISTENING = """
import os, psutil
from prefrl_benchmarks.executors.registry import find_executor
find_executor("ray")
import ray
actor = ray.remote(int).remote()  # workers listen too
for each in (process := psutil.Process(), *process.children(recursive=True)):
    for place in each.net_connections(kind="inet"):
        if place.status == psutil.CONN_LISTEN:
            print("listens", place.laddr.ip)
print(os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"]))
ray.shutdown()
"""


@with_ray
@pytest.mark.slow
def test_a_local_cluster_is_not_reachable_from_other_machines(tmp_path):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    variables |= {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", LISTENING]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    places = [line.removeprefix("listens ") for line in done.stdout.splitlines() if line.startswith("listens ")]
    assert len(places) >= 3
    assert all(place.removeprefix("::ffff:") in {"127.0.0.1", "::1"} for place in places), places
    assert "token 64" in done.stdout
    assert not (tmp_path / ".ray").exists()  # the token is this process's and its children's alone


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--executor", "rays"), "rays"),
        (("--executor", "process", "--address", "127.0.0.1:9"), "--address is for --executor ray"),
        (("--executor", "ray", "--slurm", "time=5"), "--slurm is for --executor submitit"),
    ],
)
def test_an_executor_is_named_and_takes_its_own_options_only(tmp_path, flags, reason):
    assert reason in refused(prefrl("bench", "run", "smoke", "--out", tmp_path / "out", *flags), 2)
    assert not (tmp_path / "out").exists()
