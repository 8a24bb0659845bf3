"""Modules named by a run are imported only if the user trusts them or created the run."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from runs import DEADLINE, PREFRL, Result, environment, prefrl, refused, tiny

import prefrl as package
from prefrl.errors import UsageError
from prefrl.runs.directory import RunDirectory
from prefrl.safety import signing, trust

WALK = """
import gymnasium
import helper  # in the same folder


class Walk(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        return self.observation_space.sample() * 0, float(action[0]), False, False, {}


gymnasium.register("Walk-v0", "walkmodule:Walk", max_episode_steps=40)
"""
EVIL = "import os, pathlib\npathlib.Path(os.environ['WITNESS']).write_text(__name__)\n"
SMALL = ("--mode", "sync")


def away(*args: str | Path, cwd: Path, module: bool = False, **variables: str) -> Result:
    """The command in a process of its own, in a folder."""
    program = [sys.executable, "-m", "prefrl"] if module else [PREFRL]
    command = [*program, *map(str, args)]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=DEADLINE, env=environment(**variables), check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


def rename(root: Path, **values: object) -> None:
    """Change what a run's configuration says."""
    path = root / "config.json"
    data = json.loads(path.read_text())
    data["config"] |= values
    path.write_text(json.dumps(data))


@pytest.fixture
def evil(unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that names a module in its own folder, which also contains fake libraries."""
    witness = tmp_path / "witness"
    monkeypatch.setenv("WITNESS", str(witness))
    rename(unfinished, env_id="evil:Env-v0", task="evil:Env-v0")
    for name in ("evil", "torch", "tyro", "numpy", "json", "prefrl_benchmarks", "multiprocessing", "gymnasium"):
        (unfinished / f"{name}.py").write_text(EVIL)
    plugin = unfinished / "evil-1.0.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (plugin / "entry_points.txt").write_text("[prefrl.tasks]\nevil = evil:TASKS\n[gymnasium.envs]\nevil = evil:f\n")
    return unfinished


# -- another's run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [False, True])
def test_nothing_of_another_persons_run_is_imported(module: bool, evil: Path, tmp_path: Path) -> None:
    for command in (["play", "."], ["resume", "."], ["labels", "export", ".", "x.zip"], ["reward", "fit", "."]):
        done = away(*command, cwd=evil, module=module)
        assert not (tmp_path / "witness").exists(), (command, (tmp_path / "witness").read_text())
        line = refused(done, 2)
        assert "the module evil" in line
        assert "--trust evil" in line
    assert away("status", ".", cwd=evil, module=module).code == 0
    assert not (tmp_path / "witness").exists()


def test_worker_processes_import_nothing_from_the_working_folder(unfinished_async: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    for name in ("multiprocessing", "torch", "numpy", "json"):
        (unfinished_async / f"{name}.py").write_text(EVIL)
    done = away("resume", ".", cwd=unfinished_async, module=True, WITNESS=str(witness))
    assert done.code == 0, done.err
    assert not witness.exists()


def test_python_functions_import_nothing_untrusted(evil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(evil)
    for load in (package.load_policy, package.load_reward):
        with pytest.raises(UsageError, match=r"trust=\('evil',\)"):
            load(".")
    rename(evil, env_id="other:Env-v0")
    with pytest.raises(UsageError, match="--trust other"):
        package.load_policy(".", trust=("evil",))
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    "name", ["os:Env-v0", "..evil:Env-v0", "a b:Env-v0", "evil:more:Env-v0", "\x1b[2J:Env-v0", ":Env-v0"]
)
def test_odd_names_of_modules_are_refused(name: str, unfinished: Path) -> None:
    rename(unfinished, env_id=name)
    line = refused(prefrl("play", unfinished), 2)
    assert line.isprintable()
    assert "--trust" in line or name == ":Env-v0"


def test_what_is_trusted_is_imported(unfinished: Path, tmp_path: Path) -> None:
    """From the folder in which the person works; that it is no environment of the run's is said then."""
    (tmp_path / "trusted_one.py").write_text(EVIL)
    rename(unfinished, env_id="trusted_one:Mine-v0")
    witness = tmp_path / "seen"
    done = away("play", unfinished, "--trust", "trusted_one", cwd=tmp_path, WITNESS=str(witness))
    assert witness.read_text() == "trusted_one"
    assert "Mine-v0" in refused(done, 2)


# -- one's own ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a module in the folder in which it was started; not to be changed."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "walkmodule.py").write_text(WALK)
    (folder / "helper.py").touch()
    settings = ("queries.segment_length=10", "queries.labels=8", "agent.n_envs=2", "checkpoint_seconds=0.0")
    arguments = tiny("walkmodule:Walk-v0", folder / "run", *SMALL, settings=settings, steps=1000)
    done = away(*arguments, cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"


def test_ones_own_run_plays_from_anywhere_without_a_flag(own: Path, tmp_path: Path) -> None:
    (tmp_path / "walkmodule.py").write_text("raise SystemExit('another module of that name')")
    done = away("play", own, "--episodes", "1", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "true return" in done.out
    origin = json.loads((own / "config.json").read_text())["origin"]
    assert origin["folder"] == str(own.parent)


def test_ones_own_run_resumes_and_stays_ones_own(own: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(own, tmp_path / "run"))
    done = away("resume", root, "--steps", "1400", cwd=tmp_path)
    assert done.code == 0, done.err
    assert away("play", root, "--episodes", "1", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    "change",
    [
        {"env_id": "walkmodule:Other-v0"},
        {"env_id": "evil:Walk-v0"},
        {"task": "something-else"},
        {"folder": "/tmp"},
        {"signature": "0" * 64},
        {"signature": ""},
        {"signature": "é"},
        {"origin": None},
        {"key": None},
    ],
)
def test_a_changed_or_foreign_config_is_not(
    change: dict[str, object], own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(own, tmp_path / "run"))
    data = json.loads((root / "config.json").read_text())
    for name, value in change.items():
        if name == "key":
            monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another person's"))
        elif name == "origin":
            data["origin"] = None
        else:
            data["origin" if name in data["origin"] else "config"][name] = value
    (root / "config.json").write_text(json.dumps(data))
    line = refused(prefrl("play", root), 2)
    assert "is not one of your own runs" in line
    assert "--trust" in line
    assert "walkmodule" not in sys.modules


def test_an_origin_of_another_kind_is_a_damaged_config(own: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(own, tmp_path / "run"))
    data = json.loads((root / "config.json").read_text())
    for origin in ([], {"signature": 3}, {"folder": None}, "x"):
        (root / "config.json").write_text(json.dumps(data | {"origin": origin}))
        assert "config.json is damaged" in refused(prefrl("play", root), 1)


def test_a_process_that_a_training_starts_may_make_what_the_training_made(own: Path) -> None:
    config = RunDirectory.open(own).config
    with pytest.raises(UsageError, match="--trust walkmodule"), trust.importing(config.env_id):
        pass
    trust.accept(trust.Passport(trust._call(config), "walkmodule", str(own.parent)))
    try:
        trust.admit(own, config, None)
        with trust.importing(config.env_id):
            assert sys.path[-1] == str(own.parent)
        assert str(own.parent) not in sys.path
    finally:
        for name in ("walkmodule", "helper"):
            sys.modules.pop(name, None)
        import gymnasium

        gymnasium.registry.pop("Walk-v0", None)


def test_a_plain_run_needs_no_key(finished: Path) -> None:
    assert json.loads((finished / "config.json").read_text())["origin"] is None


def test_a_state_folder_that_cannot_be_written_stops_no_training(tmp_path: Path) -> None:
    (tmp_path / "walkmodule.py").write_text(WALK)
    (tmp_path / "helper.py").touch()
    (tmp_path / "state").write_text("a file where a folder should be")
    settings = ("queries.segment_length=10", "queries.labels=8", "agent.n_envs=2")
    arguments = tiny("walkmodule:Walk-v0", tmp_path / "run", *SMALL, settings=settings, steps=1000)
    state = str(tmp_path / "state")
    done = away(*arguments, cwd=tmp_path, XDG_STATE_HOME=state)
    assert done.code == 0, done.err
    assert done.err.count("--trust walkmodule") == 1
    assert "--trust walkmodule" in refused(away("play", "run", cwd=tmp_path, XDG_STATE_HOME=state), 2)
    played = away("play", "run", "--trust", "walkmodule", "--episodes", "1", cwd=tmp_path, XDG_STATE_HOME=state)
    assert played.code == 0, played.err


# -- the key --------------------------------------------------------------------------------------------------------


def test_the_key_is_this_persons_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "state" / "prefrl" / "key"
    assert not signing.is_signed({"a": 1}, "0" * 64)
    assert not path.exists()  # looking makes none
    signed = signing.signature({"a": 1})
    assert signed is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert signing.is_signed({"a": 1}, signed)
    assert not signing.is_signed({"a": 2}, signed)
    assert signing.signature({"a": 1}) == signed
    path.chmod(0o640)
    assert not signing.is_signed({"a": 1}, signed)  # others may have read it
    assert signing.signature({"a": 1}) is None


def test_many_processes_at_once_make_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(signing.signature, [{}] * 32))) == 1


@pytest.mark.parametrize("kind", ["link", "fifo", "short", "folder"])
def test_what_is_no_key_is_not_used(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "prefrl" / "key"
    path.parent.mkdir()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(bytes(32))
        (tmp_path / "elsewhere").chmod(0o600)
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "short":
        path.write_bytes(bytes(31))
        path.chmod(0o600)
    else:
        path.mkdir()
    assert signing.signature({}) is None


def test_where_the_key_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert str(signing.key_file()) == "/home/ann/.local/state/prefrl/key"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert str(signing.key_file()) == "/home/ann/.local/state/prefrl/key"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert str(signing.key_file()) == "/state/prefrl/key"


def test_arguments_of_an_environment_need_trust_as_well(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registered environment that somebody else's run makes with arguments of its own."""
    root = Path(shutil.copytree(finished, tmp_path / "run"))
    rename(root, env_kwargs={"xml_file": "/tmp/evil.xml"})
    line = refused(prefrl("play", root), 2)
    assert "passes arguments to prefrl/Reacher-v0" in line
    assert "--trust prefrl_envs" in line
    rename(root, env_kwargs={"frame_skip": 2})
    monkeypatch.setattr(trust, "_calls", set())
    run = RunDirectory.open(root)
    run.write_config()  # as who makes a run with arguments does
    monkeypatch.setattr(trust, "_calls", set())
    RunDirectory.open(root).admit()
    rename(root, env_kwargs={"frame_skip": 3})
    with pytest.raises(UsageError, match="--trust prefrl_envs"):
        RunDirectory.open(root).admit()
    RunDirectory.open(root).admit(["prefrl_envs"])
