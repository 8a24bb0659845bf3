"""What is missing for the tasks of the extra `bpref`, and how the user hears of it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from prefrl_envs import TASKS, packages
from runs import prefrl, refused

from prefrl.errors import UsageError
from prefrl.experience.make_env import make_env
from prefrl.experience.tasks import GymnasiumTask, Lack, known_tasks, lack_of

ROOT = Path(__file__).parents[1]
FIT = {"mujoco": "3.11.0", "dm-control": "1.0.44", "metaworld": "3.0.0"}
NAMES = [name for name, task in TASKS.items() if task.packages]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The versions that are found; to be changed by a test."""
    found, real = dict(FIT), metadata.version

    def version(name: str) -> str:
        if name in FIT and name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name] if name in found else real(name)

    monkeypatch.setattr(packages.metadata, "version", version)
    return found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"mujoco": "3.11.4", "metaworld": "3.1.1"}, None),
        ({"dm-control": None}, "dm-control is missing"),
        ({"dm-control": None, "metaworld": None}, "dm-control and metaworld are missing"),
        ({"mujoco": "4.0.0"}, "mujoco must be 3.11, not 4.0.0"),
        ({"mujoco": "3.1.0"}, "mujoco must be 3.11, not 3.1.0"),
        ({"mujoco": "3.110.0"}, "mujoco must be 3.11, not 3.110.0"),
        ({"mujoco": "4.0.0", "dm-control": None}, "dm-control is missing; mujoco must be 3.11, not 4.0.0"),
        ({"dm-control": "1.0.50"}, "dm-control must be 1.0.44, not 1.0.50"),
    ],
)
def test_one_line_says_what_is_missing_and_what_does_not_fit(
    installed: dict[str, str], changes: dict[str, str | None], told: str | None
) -> None:
    for name, version in changes.items():
        installed.pop(name) if version is None else installed.update({name: version})
    assert packages.misfit(packages.FITTING) == told


def test_a_suite_needs_its_own_packages_alone(installed: dict[str, str]) -> None:
    del installed["metaworld"]
    lacking = [name for name in NAMES if TASKS[name].lack]
    assert lacking == ["button-press", "sweep-into", "drawer-open", "window-open", "door-open", "hammer"]
    assert TASKS["hammer"].lack == ("metaworld is missing", "pip install 'prefrl[bpref]'")
    assert TASKS["hopper"].lack is None


def test_a_table_of_another_package_need_not_know_of_it() -> None:
    assert lack_of(GymnasiumTask("a", "A-v0", None, 5, 30)) is None
    assert str(Lack("x is missing", "pip install x")) == "x is missing; fix with: pip install x"


def test_train_says_so_in_its_first_line_and_leaves_nothing(installed: dict[str, str], tmp_path: Path) -> None:
    del installed["dm-control"]
    installed["mujoco"] = "4.0.0"
    line = refused(prefrl("train", "walker-walk", "--out", tmp_path / "run"), 2)
    reason = "dm-control is missing; mujoco must be 3.11, not 4.0.0; fix with: pip install 'prefrl[bpref]'"
    assert line == f"prefrl: walker-walk cannot be used: {reason}"
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="walker-walk cannot be used: dm-control is missing"):
        make_env("prefrl/WalkerWalk-v0")


def test_tasks_and_doctor_say_so(installed: dict[str, str]) -> None:
    del installed["metaworld"]
    lines = {line.split()[0]: line for line in prefrl("tasks").out.splitlines()}
    assert set(lines) == set(known_tasks())
    told = "cannot be used: metaworld is missing; fix with: pip install 'prefrl[bpref]'"
    assert [name for name, line in lines.items() if line.endswith(told)] == NAMES[5:]
    assert [name for name, line in lines.items() if "cannot" in line] == NAMES[5:]
    done = prefrl("doctor")
    said = done.out.splitlines()
    place = said.index(f"LACK  tasks: {', '.join(NAMES[5:])}: metaworld is missing")
    assert said[place + 1] == "      fix with: pip install 'prefrl[bpref]'"


def test_doctor_is_content_where_all_fits(installed: dict[str, str]) -> None:
    assert f"ok    tasks: all {len(known_tasks())} can be used" in prefrl("doctor").out


def test_nothing_of_the_extra_is_imported_until_such_a_task_is_made() -> None:
    script = (
        "import sys; from prefrl.experience.find_task import find_task; from prefrl.experience.tasks import lack_of; "
        "lack_of(find_task('walker-walk')), lack_of(find_task('hammer')); "
        "print([name for name in ('dm_control', 'metaworld', 'mujoco') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the extra and its constraints ----------------------------------------------------------------------------------


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return {package.lower().replace("_", "-"): version for package, version in (line.split("==") for line in lines)}


def test_the_extra_asks_for_the_versions_that_fit() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {each.name: each.specifier for each in map(Requirement, project["optional-dependencies"]["bpref"])}
    assert asked.keys() == packages.FITTING.keys() == FIT.keys()
    found = pins("constraints-bpref.txt")
    for name, specifier in asked.items():
        assert Version(found[name]) in specifier
        assert f"{found[name]}.".startswith(f"{packages.FITTING[name]}.")


def test_the_extra_s_constraints_differ_from_the_others_in_what_it_needs_alone() -> None:
    usual, own = pins("constraints.txt"), pins("constraints-bpref.txt")
    assert usual.keys() - own.keys() == {"mujoco-core", "mujoco-studio"}
    assert {name for name in usual.keys() & own.keys() if usual[name] != own[name]} == {"mujoco"}
    assert {"dm-control", "dm-env", "metaworld", "lxml"} <= own.keys() - usual.keys()
    assert "//" not in (ROOT / "constraints-bpref.txt").read_text()
