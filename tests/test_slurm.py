"""Cells on a real single-node Slurm on this machine. Skipped if Slurm is not installed, or without root."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prefrl_benchmarks.executors import registry as executors
from prefrl_benchmarks.executors import slurm
from runs import DEADLINE, prefrl, progress, refused, summary, until

DAEMONS = ("slurmctld", "slurmd")
with_slurm = pytest.mark.skipif(
    os.getuid() != 0 or any(shutil.which(name) is None for name in (*DAEMONS, "sbatch")),
    reason="no Slurm that this user may start: apt-get install slurmctld slurmd slurm-client",
)
CONFIGURATION = """
ClusterName=prefrl
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=30
MinJobAge=10
AuthInfo=cred_expire=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=work Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
SHORT, LONG = 12_000, 20_000
"""Steps."""
START = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Slurm without accounting, as many small ones are; each process of the tests has its own.

    Credentials expire early, since a job that is queued again waits for that.
    """
    folder = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(host=host, folder=folder, cores=os.cpu_count(), ports=free_ports())
    )
    for name in ("state", "spool"):
        (folder / name).mkdir()
    patched = pytest.MonkeyPatch()
    patched.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    daemons = [subprocess.Popen([name, "-D"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for name in DAEMONS]
    try:
        with contextlib.suppress(AssertionError):
            until(
                lambda: any(daemon.poll() is not None for daemon in daemons) or nodes() == "idle",
                "a node",
                START,
                every=0.2,
            )
        if nodes() != "idle":
            pytest.skip(f"Slurm does not start here: {(folder / 'slurmd.log').read_text().splitlines()[-1:]}")
        yield
        subprocess.run(["scancel", "--user", "root"], check=False)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(DEADLINE)
        patched.undo()


def free_ports():
    """Two ports that nobody listens on."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def nodes():
    """The state of the cluster's only node."""
    asked = ["sinfo", "--noheader", "--format", "%T"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def runner(folder, steps, *flags):
    """`prefrl bench run` of two cells, to be waited for or not."""
    folder.joinpath("two.toml").write_text(
        f'tasks = ["reacher"]\nseeds = [0, 1]\nsteps = {steps}\n[variants.true]\nteacher = "none"\n'
    )
    where = ["--out", str(folder / "out"), "--jobs", "2", "--executor", "submitit", *flags]
    command = [sys.executable, "-m", "prefrl", "bench", "run", str(folder / "two.toml"), *where]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def cells(folder):
    return [folder / "out" / f"reacher_ppo_none_s{seed}" for seed in (0, 1)]


def jobs(state="running"):
    """Numbers of the jobs in a state."""
    asked = ["squeue", "--noheader", "--states", state, "--format", "%i"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


def steps_taken():
    """How far the cells of running jobs are, on their nodes' disks."""
    found, running = [], jobs()
    for each in psutil.process_iter(["cmdline", "environ"]):
        words, variables = each.info["cmdline"] or (), each.info["environ"] or {}
        ours = variables.get("SLURM_CONF") == os.environ["SLURM_CONF"]
        if ours and "prefrl_benchmarks.executors.child" in words and variables.get("SLURM_JOB_ID") in running:
            found.append(progress(Path(words[-1])).get("step", 0))
    return found


def at_work():
    """Whether both cells are into their rounds."""
    steps = steps_taken()
    return len(steps) == 2 and all(0 < step < LONG for step in steps)


def end(process):
    """What a runner said, once it has ended."""
    said = process.communicate(timeout=3 * DEADLINE)
    return process.returncode, *said


def assert_finished(folder, steps):
    for root in cells(folder):
        assert steps <= summary(root)["steps"] < steps + 20_000
        assert progress(root)["state"] == "training"


def test_without_submitit_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: None)
    done = prefrl("bench", "run", "smoke", "--out", tmp_path / "out", "--executor", "submitit")
    assert "pip install 'prefrl[submitit]'" in refused(done, 2)
    assert not (tmp_path / "out").exists()


def test_without_slurm_the_executor_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    done = prefrl("bench", "run", "smoke", "--out", tmp_path / "out", "--executor", "submitit")
    assert "it has no sbatch" in refused(done, 2)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--executor", "submitit", "--slurm", "time"], "KEY=VALUE"),
        (["--executor", "submitit", "--address", "localhost:1"], "--address is for"),
        (["--slurm", "time=3"], "--slurm is for"),
    ],
)
def test_options_that_cannot_be(flags, told, tmp_path):
    assert told in refused(prefrl("bench", "run", "smoke", "--out", tmp_path / "out", *flags), 2)


@with_slurm
def test_a_parameter_that_is_none(tmp_path):
    flags = ["--executor", "submitit", "--slurm", "nonsense=3"]
    assert "nonsense" in refused(prefrl("bench", "run", "smoke", "--out", tmp_path / "out", *flags), 2)


@with_slurm
@pytest.mark.slow
def test_what_slurm_refuses_is_reported_in_one_line(cluster, tmp_path):
    code, _, said = end(runner(tmp_path, SHORT, "--slurm", "partition=nowhere"))
    assert code == 1
    assert said.splitlines()[-1] == (
        "prefrl: Slurm does not take the job: Batch job submission failed: Invalid partition name specified"
    )


@with_slurm
@pytest.mark.slow
def test_a_preempted_node_loses_no_work(cluster, tmp_path):
    """A preempted cell resumes from the copied-back run."""
    with runner(tmp_path, LONG) as process:
        until(at_work, "two cells at work", every=0.2)
        for job in jobs():
            subprocess.run(["scancel", "--signal", "USR2", job], check=True)
        until(lambda: not jobs(), "the cells to be put back", every=0.2)
        steps = [progress(root)["step"] for root in cells(tmp_path)]
        assert all(0 < step < LONG for step in steps)
        assert end(process)[0] == 0
    assert_finished(tmp_path, LONG)
    for root in cells(tmp_path):
        said = root.with_name(f"{root.name}.log").read_text()
        assert "prefrl: stopped; resume with: " in said
        assert "Traceback" not in said


@with_slurm
@pytest.mark.slow
def test_jobs_outlive_their_runner_which_finds_them_again(cluster, tmp_path):
    with runner(tmp_path, LONG) as process:
        until(at_work, "two cells at work", every=0.2)
        process.kill()
    before = jobs()
    with runner(tmp_path, LONG) as process:
        assert end(process)[0] == 0
    assert len(before) == 2
    assert sorted(before) == sorted({path.name.partition("_")[0] for path in results(tmp_path)})
    assert_finished(tmp_path, LONG)


def results(folder):
    return list((folder / "out" / slurm.FOLDER).glob("*_result.pkl"))


@with_slurm
@pytest.mark.slow
def test_a_runner_that_is_stopped_puts_its_cells_back(cluster, tmp_path):
    with runner(tmp_path, LONG) as process:
        until(at_work, "two cells at work", every=0.2)
        process.send_signal(signal.SIGTERM)
        code, _, said = end(process)
    assert code == 1
    assert "run the same command to continue" in said
    until(lambda: not jobs(), "the jobs' end", every=0.2)
    assert all(0 < progress(root)["step"] < LONG for root in cells(tmp_path))
    with runner(tmp_path, LONG) as process:
        code, _, said = end(process)
    assert code == 0, said
    assert_finished(tmp_path, LONG)


@with_slurm
@pytest.mark.slow
def test_a_job_that_somebody_cancels_is_a_failed_cell(cluster, tmp_path):
    with runner(tmp_path, LONG) as process:
        until(at_work, "two cells at work", every=0.2)
        first, _ = sorted(jobs())
        subprocess.run(["scancel", first], check=True)
        code, _, said = end(process)
    assert any(0 < progress(root)["step"] < LONG for root in cells(tmp_path))  # what it had done came back
    assert code == 1
    assert f"lost on the cluster: job {first} has ended without a result" in said.splitlines()[-1]
    assert sum((root / "summary.json").exists() for root in cells(tmp_path)) == 1
