"""Damage run directories, archives and result folders at random, and run every command that reads them.

Whatever is broken: exit status 0, 1 or 2, at most one line of error, none that is unexpected, nothing a terminal acts
on, and an end in good time. A short part with set seeds runs in the suite; a longer one by hand:

    python tests/fuzz.py --cases 2000 --seed 7
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from asking import make_run as make_asking_run
from bench_runs import FULL, finish_suite, suite
from labelled import add_labels, make_run
from runs import Result, prefrl, tiny

from clip_viewer.session import Session
from prefrl.errors import PrefrlError
from prefrl.feedback.transfer import export_labels
from prefrl.storage.files import load_tree, save_tree

SECONDS = 60
"""After which a command hangs, on the busiest machine."""
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3.5, 10**7, 10**12, 2**63, 10**30, 1e308, -0.0, "", "²", "LEFT", "left",
    "\x1b[2J\n", "\u202e", "\ud800", "a" * 10_000, "../../x", "os:Env-v0", "NaN", [], [0], [[]], {}, {"a": 1},
    [10**7, 10**7], "human", "none", "2020-01-01", b"\xff\x00", float("nan"), float("inf"),
)  # fmt: skip


class Broken(NamedTuple):
    """What a command did that none may do."""

    seed: int
    done_to: str
    command: str
    told: str


# -- what is broken -------------------------------------------------------------------------------------------------


def flip(rng: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes() or b"x")
    for _ in range(rng.choice((1, 1, 8, 64))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(bytes(data))


def cut(rng: random.Random, path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) + 1)])


def grow(rng: random.Random, path: Path) -> None:
    with path.open("ab") as file:
        file.write(
            rng.choice((b"\0", b"x", b"\n", b"[", b'{"a":', b"\xff\xd8", b",1e400\n")) * rng.choice((1, 100, 100_000))
        )


def garble(rng: random.Random, path: Path) -> None:
    path.write_bytes(rng.choice((b"", b"\0" * 4096, b"null", b"[" * 100_000, rng.randbytes(3000), b'{"a": NaN}')))


def replace(rng: random.Random, path: Path) -> None:
    """Something that is no ordinary file in its place."""
    path.unlink()
    kind = rng.choice(("pipe", "folder", "device", "nothing", "sparse", "link"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link":
        path.symlink_to(rng.choice(("/etc/passwd", "nowhere", path.name)))
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(2**40)


def swap(rng: random.Random, path: Path) -> None:
    """Another file of the same folder in its place."""
    path.write_bytes(rng.choice([other for other in path.parent.iterdir() if other.is_file()]).read_bytes())


def odd_value(rng: random.Random, node: Any) -> Any:
    """Plain data with one place changed, taken out, or made deep."""
    if isinstance(node, dict) and node and rng.random() < 0.85:
        key = rng.choice(list(node))
        if rng.random() < 0.15:
            return {name: value for name, value in node.items() if name != key}
        if rng.random() < 0.05:
            return node | {str(rng.choice(ODD)): rng.choice(ODD)}
        return node | {key: odd_value(rng, node[key])}
    if isinstance(node, list) and node and rng.random() < 0.7:
        place = rng.randrange(len(node))
        return [*node[:place], odd_value(rng, node[place]), *node[place + 1 :]]
    if rng.random() < 0.05:
        for _ in range(500):
            node = [node]
        return node
    return rng.choice(ODD)


def odd_json(rng: random.Random, path: Path) -> None:
    data = odd_value(rng, json.loads(path.read_text()))
    path.write_text(json.dumps(data, default=lambda value: "bytes"))


def odd_tree(rng: random.Random, path: Path) -> None:
    """Whole, with the right checksum, and other content."""

    def change(node: Any) -> Any:
        if isinstance(node, dict) and node and rng.random() < 0.9:
            key = rng.choice(list(node))
            if rng.random() < 0.1:
                return {name: value for name, value in node.items() if name != key}
            return node | {key: change(node[key])}
        if isinstance(node, np.ndarray) and rng.random() < 0.6:
            reshaped = [
                node.ravel()[:1],
                node[None],
                node.astype(np.float64),
                node * 0,
                np.zeros((0, 3)),
                np.array("x"),
            ]
            return reshaped[rng.randrange(5)]
        return rng.choice([value for value in ODD if not isinstance(value, bytes)])

    changed = change(load_tree(path))
    with contextlib.suppress(TypeError, ValueError):  # what cannot be written is no case
        save_tree(path, changed if isinstance(changed, dict) else {"x": 1})


def odd_row(rng: random.Random, path: Path) -> None:
    with (
        contextlib.suppress(sqlite3.Error, UnicodeEncodeError, OverflowError),
        contextlib.closing(sqlite3.connect(path)) as base,
    ):
        tables = [row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = rng.choice([name for name in tables if not name.startswith("sqlite_")])
        column = rng.choice([row[1] for row in base.execute(f'PRAGMA table_info("{table}")')])
        value = rng.choice([odd for odd in ODD if not isinstance(odd, list | dict)])
        base.execute(
            f'UPDATE OR IGNORE "{table}" SET "{column}" = ? WHERE rowid IN (SELECT rowid FROM "{table}" LIMIT 3)',
            (value,),
        )
        base.commit()


def odd_cell(rng: random.Random, path: Path) -> None:
    """A field of a CSV."""
    lines = path.read_text().splitlines() or [""]
    place = rng.randrange(len(lines))
    fields = lines[place].split(",")
    fields[rng.randrange(len(fields))] = rng.choice(
        ("nan", "1e400", "²", "-", '"', "x" * 200_000, "9" * 5000, "", "\0")
    )
    path.write_text("\n".join([*lines[:place], ",".join(fields), *lines[place + 1 :]]) + "\n")


def odd_zip(rng: random.Random, path: Path) -> None:
    """A member changed, left out, or there twice."""
    scratch = path.with_name("member")
    with zipfile.ZipFile(path) as file:
        members = {entry.filename: file.read(entry) for entry in file.infolist()}
    name = rng.choice(["labels.json", *members])
    scratch.write_bytes(members[name])
    kinds: dict[str, list[Callable[[random.Random, Path], None]]] = {".json": [odd_json], ".safetensors": [odd_tree]}
    rng.choice([flip, cut, grow, *kinds.get(Path(name).suffix, []) * 6])(rng, scratch)
    members[name] = scratch.read_bytes()
    scratch.unlink()
    if rng.random() < 0.1:
        del members[name]
    packed = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", packed) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each, content in members.items():
            for _ in range(1 + (rng.random() < 0.02)):
                file.writestr(each, content)


_OWN = {
    ".json": (odd_json,),
    ".safetensors": (odd_tree,),
    ".sqlite": (odd_row,),
    ".csv": (odd_cell,),
    ".zip": (odd_zip,),
}


def mutate(rng: random.Random, root: Path) -> str:
    """Break one file or a few; what was done."""
    told = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
        files = [path for path in files if path.suffix in {*_OWN, ".avi", ".toml", ".log"}]
        if not files:
            break
        suffix = rng.choice(sorted({path.suffix for path in files}))
        path = rng.choice([path for path in files if path.suffix == suffix])
        how = rng.choice([flip, cut, grow, garble, replace, swap, *_OWN.get(path.suffix, ()) * 12])
        with contextlib.suppress(PrefrlError, ValueError, OSError, KeyError, zipfile.BadZipFile, struct.error):
            how(rng, path)
        told.append(f"{how.__name__} {path.relative_to(root)}")
    return ", ".join(told)


# -- what reads it --------------------------------------------------------------------------------------------------


def look(root: Path) -> None:
    """What the viewer's window asks of a run."""
    session = Session(root, "ann")
    try:
        for lease in session.leases(2):
            session.load(lease)
        session.progress()
    finally:
        session.close()


class Specimens:
    """What there is to break: made once."""

    def __init__(self, folder: Path) -> None:
        self.trained = folder / "trained"
        done = prefrl(*tiny("reacher", self.trained, "--mode", "sync", steps=2200))
        assert done.code == 0, done.err
        made, store = make_asking_run(folder)
        store.close()
        self.asking = made.root
        labelled = make_run(folder / "labelled")
        add_labels(labelled, 8, videos=2)
        self.archive = folder / "archive"
        self.archive.mkdir()
        export_labels(labelled.root, self.archive / "labels.zip")
        self.target = labelled.root
        self.suite = folder / "suite"
        finish_suite(
            suite(tasks=("reacher",)), self.suite, {("reacher", "true"): (3, 4), ("reacher", FULL.name): (2, 1)}
        )
        (self.suite / "random.json").write_text('{"episodes": 30, "returns": {"reacher": -40.0}}')

    def cases(self, root: Path) -> list[tuple[Path, tuple[str, ...]]]:
        """A specimen with a command for its copy at `root`; labels are imported into one that is whole."""
        run = str(root)
        archive = str(root / "labels.zip")
        return [
            (self.trained, ("status", run)),
            (self.trained, ("status", run, "--json")),
            (self.trained, ("labels", "report", run)),
            (self.trained, ("labels", "finish", run)),
            (self.trained, ("labels", "export", run, str(root / "out.zip"))),
            (self.trained, ("labels", "export", run, str(root / "out.csv"))),
            (self.trained, ("play", run, "--episodes", "1")),
            (self.trained, ("reward", "fit", run, "--comparisons", "32")),
            (self.trained, ("resume", run)),
            (self.asking, ("status", run)),
            (self.asking, ("labels", "report", run)),
            (self.asking, ("look", run)),
            (self.suite, ("bench", "compare", run, str(self.suite))),
            (self.suite, ("bench", "publish", run, str(root / "published"))),
            (self.archive, ("labels", "import", archive)),
            (self.archive, ("labels", "import", archive, "--into", str(self.target))),
            (self.archive, ("train", "reacher", "--labels-from", archive, "--steps", "0", "--out", str(root / "run"))),
        ]


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(command: tuple[str, ...]) -> str | None:
    """Run a command on broken files; what it did that none may do, or None."""
    with alarm(SECONDS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _looked(Path(command[1])) if command[0] == "look" else _judged(prefrl(*command))


def _looked(root: Path) -> str | None:
    try:
        look(root)
    except PrefrlError as error:
        return f"several lines: {error}" if "\n" in str(error) else None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _judged(done: Result) -> str | None:
    said = [line for line in done.err.splitlines() if line.startswith("prefrl: ")]
    faults = {
        "a trace": "Traceback" in done.err,
        "its exit status": done.code not in {0, 1, 2} or (done.code != 0 and not said),
        "several lines of error": done.code != 0 and len(said) > 1,
        "an unexpected error": "PREFRL_DEBUG" in done.err,
        "what a terminal acts on": not all(line.isprintable() for line in (done.out + done.err).split("\n")),
    }
    found = [fault for fault, there in faults.items() if there]
    return f"{', '.join(found)}: exit status {done.code}: {done.err[-600:]!r}" if found else None


def fuzz(specimens: Specimens, folder: Path, seed: int, kinds: slice = slice(None)) -> Broken | None:
    """One case, the same for the same seed."""
    rng = random.Random(seed)
    root = folder / f"case-{seed}"
    source, command = rng.choice(specimens.cases(root)[kinds])
    shutil.copytree(source, root)
    try:
        done_to = mutate(rng, root)
        told = run(command)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return Broken(seed, done_to, " ".join(command), told) if told else None


def main() -> int:
    """A longer run, by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    began, found, cases = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_STATE_HOME"] = name
        specimens = Specimens(Path(name))
        for seed in range(given.seed, given.seed + given.cases):
            if time.monotonic() - began > given.seconds:
                break
            cases += 1
            if broken := fuzz(specimens, Path(name), seed):
                found += 1
                print(broken, flush=True)
    print(f"{cases} cases, {found} broken")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
