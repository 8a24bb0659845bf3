"""Mutation testing by hand: `python tests/mutation.py [FILES] [--sample N] [--seed S]`.

Each mutant is one small change of one source file, written into a copy of the checkout. The tests that run the changed
line are run on it in a process forked from one that has the slow libraries loaded; a mutant that no test fails on has
survived, which means that a test is missing or that the change makes no difference. The latter are listed in
`equivalent_mutants.toml`, each with the reason. Results are kept under `.mutation`: a second call goes on where the
first one stopped, and tries survivors again.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import gc
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from mutants import Mutant, mutants

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".mutation"
TREE, COVERAGE, RESULTS = WORK / "tree", WORK / "coverage", WORK / "results.jsonl"
SOURCES = ("prefrl", "envs", "clip_viewer", "benchmarks/prefrl_benchmarks", "tests", "pyproject.toml")
TESTS: dict[str, list[str]] = tomllib.loads((ROOT / "tests" / "mutation_tests.toml").read_text())
"""The tests that are to hold a file, as `tests/test_NAME.py`; of these, those that run the changed line are run."""
BESIDE = {"prefrl/reward/launch.py"}
"""Files whose work is done in another process, which is not traced: all of their tests are run."""
SLOW_SECONDS = 8.0
"""Tests that take longer are left out, but for files that nothing else tests."""


# -- which tests run which lines --------------------------------------------------------------------------------------


class Tracer:
    """A pytest plugin: how long each test takes, and which lines of the files above run in it."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}
        self._names = {str(TREE / name): name for name in TESTS}
        self._lines: dict[str, set[int]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Trace one test with its fixtures."""
        self._lines = collections.defaultdict(set)
        before = time.monotonic()
        threading.settrace(self._call)
        sys.settrace(self._call)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            lines = {name: sorted(found) for name, found in self._lines.items()}
            self.seen[item.nodeid] = {"seconds": time.monotonic() - before, "lines": lines}

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = self._names.get(frame.f_code.co_filename)
        if name is None:
            return None
        lines = self._lines[name]
        lines.add(frame.f_lineno)

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return line

        return line


class Only:
    """A pytest plugin that keeps the tests named, in the order in which they are named."""

    def __init__(self, names: Sequence[str]) -> None:
        self._places = {name: place for place, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the others out."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self._places), key=lambda item: self._places[item.nodeid]
        )


def traced(tests: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the tracer saw of each test of these files, from the cache where neither they nor the sources changed."""
    found: dict[str, dict[str, Any]] = {}
    sources = "".join((TREE / name).read_text() for name in TESTS if (TREE / name).exists())
    for test in tests:
        path = TREE / "tests" / f"test_{test}.py"
        if not path.exists():
            continue
        digest = hashlib.sha1((sources + path.read_text()).encode()).hexdigest()
        kept = COVERAGE / f"{test}-{digest}.json"
        if not kept.exists():
            print(f"tracing {path.name}", flush=True)
            code = in_a_fork(lambda path=path, kept=kept: trace(path, kept), 1800)
            if code != 0:
                print(f"{path.name} is left out: it fails on the code as it is ({WORK / 'log'})", flush=True)
                continue
        found |= json.loads(kept.read_text())
    return found


def trace(path: Path, kept: Path) -> int:
    tracer = Tracer()
    code = pytest.main([str(path), *QUIET], plugins=[tracer])
    if code == 0:
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(tracer.seen))
    return int(code)


def covering(file: str, mutant: Mutant, seen: dict[str, dict[str, Any]]) -> list[str]:
    """The tests to be run on a mutant: those of the fastest files first, each file's in their own order."""
    lines = set(range(mutant.first, mutant.last + 1))
    chosen = {
        name: test["seconds"]
        for name, test in seen.items()
        if file in BESIDE
        or (test["seconds"] < SLOW_SECONDS and not lines.isdisjoint(test["lines"].get(file, ())))
        or (mutant.at_import and test["seconds"] < SLOW_SECONDS)  # a table is read without a line of the file being run
    }
    cost: dict[str, float] = collections.defaultdict(float)
    for name, seconds in chosen.items():
        cost[name.split("::")[0]] += seconds
    return sorted(chosen, key=lambda name: (cost[name.split("::")[0]], name.split("::")[0]))


# -- processes --------------------------------------------------------------------------------------------------------

TRAINING = (
    "tests/test_teachers.py::test_ant_learns_from_a_teacher_with_a_threshold",
    "tests/test_pixels.py::test_other_images_train_too",
    "tests/test_pixels.py::test_a_run_on_a_game_counts_its_real_episodes",
    "tests/test_pixels.py::test_a_resumed_run_on_the_dot_equals_the_uninterrupted_one",
)
"""Tests that train for minutes when they are traced, and are left out."""
QUIET = ("-q", "-s", "-x", "-p", "no:cacheprovider", "-m", "not slow", "--no-header", "--tb=line")
QUIET += tuple(f"--deselect={name}" for name in TRAINING)


def in_a_fork(work: Callable[[], Any], seconds: float, log: str = "log") -> int | None:
    """The exit status of a function's process; None where it took too long. Its processes end with it."""
    child = os.fork()
    if child == 0:
        os.setsid()
        told = os.open(WORK / log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(told, 1)
        os.dup2(told, 2)
        code = 70
        try:
            os.chdir(TREE)
            code = int(work())
        except BaseException as error:
            print(repr(error))
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    code: int | None = None
    while code is None and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return code


def prepare() -> None:
    """Copy the checkout, and have every import here and in children come from the copy."""
    for name in SOURCES:
        source, copy = ROOT / name, TREE / name
        if source.is_dir():
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "results", ".mypy_cache"))
        else:
            shutil.copy(source, copy)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(TREE)], check=True)
    paths = [str(TREE), str(TREE / "envs"), str(TREE / "benchmarks")]
    sys.path[:0] = paths
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True
    for name in ("torch", "stable_baselines3", "sb3_contrib", "gymnasium", "sqlalchemy", "hypothesis", "scipy.stats"):
        importlib.import_module(name)
    for name in (
        "cv2",
        "safetensors.torch",
        "tyro",
        "rich.console",
        "tensorboard",
        "psutil",
        "moviepy",
        "av",
        "mujoco",
    ):
        importlib.import_module(name)
    for name in ("torch.utils.tensorboard", "ale_py", "gymnasium.envs.mujoco.mujoco_env", "hypothesis.strategies"):
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)


# -- mutants ----------------------------------------------------------------------------------------------------------

Report = Callable[[Mutant, int | None], None]
"""Told the exit status of a mutant's tests; None where they took too long."""
_NOT_HERE = 99
"""The exit status for a change that a running module cannot be given."""


class Session:
    """A pytest plugin that runs, in place of the tests, each mutant's tests in a process forked from this one.

    Only a change within a function can be made here, by giving the function other code; nothing is imported again.
    """

    def __init__(self, file: str, every: Sequence[Mutant], seen: dict[str, dict[str, Any]], report: Report) -> None:
        self._file, self._every, self._seen, self._report = file, every, seen, report

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try each mutant."""
        importlib.import_module(self._file.removeprefix("benchmarks/").removesuffix(".py").replace("/", "."))
        functions = functions_of(str(TREE / self._file))
        items = {item.nodeid: item for item in session.items}
        for mutant in self._every:
            names = covering(self._file, mutant, self._seen)
            tests = [items[name] for name in names]
            work = functools.partial(self._run, session, functions, mutant, tests)
            self._report(mutant, in_a_fork(work, patience(names, self._seen)) if tests else 0)
        return True

    def _run(self, session: pytest.Session, functions: Functions, mutant: Mutant, tests: list[pytest.Item]) -> int:
        try:
            if not given(functions, mutant.code):
                return _NOT_HERE
        except ValueError:  # other free variables
            return _NOT_HERE
        for test, following in itertools.zip_longest(tests, tests[1:]):
            session.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
            if session.testsfailed:
                return 1
        return 0


Functions = dict[tuple[str, int], list[FunctionType]]
"""A file's functions by name and first line."""


def functions_of(path: str) -> Functions:
    found: Functions = collections.defaultdict(list)
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename == path:
            found[function.__code__.co_qualname, function.__code__.co_firstlineno].append(function)
    return found


def given(functions: Functions, module: CodeType) -> bool:
    """Give functions the code that they have in another version of their module; whether any differed."""
    differed = False
    for code in module.co_consts:
        if isinstance(code, CodeType):
            for function in functions.get((code.co_qualname, code.co_firstlineno), ()):
                if function.__code__ != code:
                    function.__code__ = code
                    differed = True
            differed |= given(functions, code) if not code.co_flags & inspect.CO_OPTIMIZED else False
    return differed


def patience(names: Sequence[str], seen: dict[str, dict[str, Any]]) -> float:
    """Seconds after which a mutant's tests hang."""
    return 30 + 6 * sum(seen[name]["seconds"] for name in names)


def from_disk(file: str, mutant: Mutant, seen: dict[str, dict[str, Any]]) -> int | None:
    """Run the tests of a mutant on the mutated file, with fresh imports."""
    names = covering(file, mutant, seen)
    path = TREE / file
    original = path.read_text()
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
    path.write_text(mutant.text)
    files = list(dict.fromkeys(str(TREE / name.split("::")[0]) for name in names))
    try:
        work = functools.partial(pytest.main, [*files, *QUIET], plugins=[Only(names)])
        return in_a_fork(work, patience(names, seen)) if names else 0
    finally:
        path.write_text(original)


def results() -> dict[str, str]:
    """What became of the mutants of earlier calls."""
    if not RESULTS.exists():
        return {}
    return dict(json.loads(line) for line in RESULTS.read_text().splitlines())


def equivalents() -> dict[tuple[str, str, str], str]:
    """(file, line, change) of the mutants that make no difference, and why."""
    listed = tomllib.loads((ROOT / "tests/equivalent_mutants.toml").read_text())
    return {
        (file, line, change): reason
        for file, lines in listed.items()
        for line, changes in lines.items()
        for change, reason in changes.items()
    }


def attempt(file: str, sample: int | None, seed: int) -> Iterator[tuple[Mutant, str]]:
    """Try a file's mutants, or a sample of them."""
    same = equivalents()
    every = mutants((TREE / file).read_text(), str(TREE / file))
    if sample is not None and sample < len(every):
        every = sorted(random.Random(seed).sample(every, sample), key=lambda mutant: mutant.line)
    # After the sample, so that it stays the same when one of it is found to make no difference.
    every = [mutant for mutant in every if (file, mutant.source, mutant.change) not in same]
    seen = traced(TESTS[file])

    def report(mutant: Mutant, code: int | None) -> None:
        result = "timeout" if code is None else {0: "survived", _NOT_HERE: "later"}.get(code, "killed")
        with RESULTS.open("a") as kept:
            kept.write(json.dumps([f"{file}: {mutant.key}", result]) + "\n")

    def waiting() -> list[Mutant]:
        known = results()
        return [mutant for mutant in every if known.get(f"{file}: {mutant.key}") in {None, "survived", "later"}]

    files = [str(TREE / f"tests/test_{test}.py") for test in TESTS[file]]
    here = [mutant for mutant in waiting() if not mutant.at_import and file not in BESIDE]
    if here:
        plugins = [Session(file, here, seen, report)]
        there = [each for each in files if Path(each).exists()]
        in_a_fork(lambda: pytest.main([*there, *QUIET], plugins=plugins), math.inf, "session")
    tried = {mutant.key for mutant in here}
    for mutant in waiting():
        if mutant.key not in tried or results().get(f"{file}: {mutant.key}") == "later":
            report(mutant, from_disk(file, mutant, seen))
    known = results()
    return iter([(mutant, known[f"{file}: {mutant.key}"]) for mutant in every])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=list(TESTS), help="default: every file that the script knows")
    parser.add_argument("--sample", type=int, help="mutants of each file; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    arguments = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    TREE.mkdir(exist_ok=True)
    prepare()
    killed = total = 0
    for file in arguments.files:
        found: collections.Counter[str] = collections.Counter()
        for mutant, result in attempt(file, arguments.sample, arguments.seed):
            found[result] += 1
            if result == "survived":
                print(f"{file}:{mutant.line}: {mutant.change}\n    {mutant.source}", flush=True)
        count = found.total()
        print(f"{file}: {count - found['survived']} of {count} killed, {found['timeout']} by time", flush=True)
        killed, total = killed + count - found["survived"], total + count
    print(f"{killed} of {total} killed ({killed / max(1, total):.1%})")


if __name__ == "__main__":
    main()
