"""Short synchronous runs whose results must not change when the code is restructured.

Some processors round the last digit of some functions differently, whatever instructions they are held to. So the
results are kept by kind of processor, in `tests/data/golden/KIND`: a checksum of what the functions give, but for the
first kind, of which it is not known. (AMD and Intel approximate reciprocals differently, which may be the cause.)

`python tests/golden.py` writes what they give now, and removes the other kinds' results of the same runs. Run it only
after a change that is meant to change results, and say in the commit which of them changed and why.
`python tests/golden.py --keep` adds the results of a new kind of processor: run it on a commit that passes on another.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

DATA = Path(__file__).parent / "data" / "golden"

LONG = ("cheetah", "pendulum", "walker")
"""Tasks with episodes of 1,000 steps, whose evaluation would take as long as the training."""


def _train(
    task: str, seed: int, steps: int, *flags: str, labels: int = 60, settings: tuple[str, ...] = ()
) -> list[str]:
    budget = ["--steps", str(steps), "--labels", str(labels), "--seed", str(seed), "--mode", "sync"]
    fit = "reward.pretrain_comparisons=96" if task == "moving-dot" else "reward.pretrain_comparisons=320"
    brief = ["evaluation.episodes=0"] if task in LONG else []
    return ["train", task, *flags, *budget, "--set", "round_steps=2048", fit, *brief, *settings]


LABELS = DATA / "labels.zip"
"""Of a run of cheetah; `imported` starts from them."""
RUNS: dict[str, list[list[str]]] = {
    "cheetah": [_train("cheetah", 1, 10240)],
    "hopper": [_train("hopper", 2, 10240)],
    "pendulum": [_train("pendulum", 3, 10000)],
    "reacher": [_train("reacher", 4, 10240)],
    "reacher-a2c": [_train("reacher", 5, 8192, "--algo", "a2c")],
    "walker-trpo": [_train("walker", 6, 8192, "--algo", "trpo")],
    "moving-dot": [_train("moving-dot", 7, 4096, labels=16)],
    "cartpole": [_train("CartPole-v1", 8, 10240)],
    "mistake": [_train("cheetah", 9, 8192, "--teacher", "mistake")],
    "boltzmann": [_train("cheetah", 10, 8192, "--teacher", "boltzmann")],
    "comparisons": [_train("hopper", 11, 8192, settings=("reward.normalise_over=comparisons",))],
    "true-reward": [_train("hopper", 12, 8192, "--teacher", "none")],
    "resumed": [_train("hopper", 13, 6144, labels=40), ["resume", "--steps", "12288", "--labels", "60"]],
    "reacher-sac": [_train("reacher", 15, 4096, "--algo", "sac")],
    "imported": [_train("cheetah", 14, 8192, "--labels-from", str(LABELS), labels=80)],
}

# The last digits depend on the instructions that a processor has: every library is held to the ones that all have.
PLAIN = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
}


class Program:
    """`prefrl` in a process of its own, which takes one command after the other."""

    def __enter__(self) -> Program:
        command = [sys.executable, __file__, "--serve"]
        environment = os.environ | PLAIN
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __call__(self, *words: str) -> None:
        """Run a command; RuntimeError if it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(words), file=self._process.stdin, flush=True)
        said = self._process.stdout.readline()
        if said != "0\n":
            raise RuntimeError(f"prefrl {' '.join(words)}: {said}")


def _serve() -> None:
    from prefrl.commands import cli

    for line in sys.stdin:
        sys.argv, said = ["prefrl", *json.loads(line)], io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                cli.main()
            except SystemExit as end:
                code = end.code
        print(f"{code} {said.getvalue()[-1000:]!r}" if code else 0, flush=True)


def run(name: str, folder: Path, program: Program) -> list[dict[str, str]]:
    """The rows of `metrics.csv` that a run gives, without the columns that depend on the clock."""
    root = folder / name
    for command, *arguments in RUNS[name]:
        # Before the other options: what stands behind --set takes every word up to the next option.
        words = [arguments[0], "--out", str(root), *arguments[1:]] if command == "train" else [str(root), *arguments]
        program(command, *words)
    return rows(root / "metrics.csv")


def results() -> str:
    """A checksum of what this processor gives for the functions that runs use."""
    import numpy as np
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    doubles = rng.normal(scale=3, size=(257, 129))
    left, right = torch.tensor(doubles).float(), torch.tensor(rng.normal(size=(129, 65))).float()
    pictures = torch.tensor(rng.normal(size=(4, 3, 21, 21))).float()
    kernels = torch.tensor(rng.normal(size=(8, 3, 5, 5))).float()
    functions = (torch.tanh, torch.sigmoid, torch.exp, torch.sin, functional.softplus, functional.silu, torch.expm1)
    of_positive = (torch.log, torch.sqrt, torch.rsqrt, torch.reciprocal, torch.log1p)
    given = [function(x) for function in functions for x in (left, left.double())]
    given += [function(x.abs() + 1e-3) for function in of_positive for x in (left, left.double())]
    given += [left @ right, functional.conv2d(pictures, kernels), left.softmax(1), left.logsumexp(1), left.std(0)]
    given += [left.mean(0), torch.linalg.vector_norm(left), left.cumsum(1)]
    plain = [function(doubles) for function in (np.tanh, np.exp, np.sin, np.cos)]
    crc = 0
    for one in [*(tensor.numpy() for tensor in given), *plain, doubles @ doubles.T, np.linalg.pinv(doubles)]:
        crc = zlib.crc32(np.ascontiguousarray(one).tobytes(), crc)
    return f"{crc:08x}"


def processor() -> str:
    """The kind of this processor: equal for two that gave equal results."""
    command = [sys.executable, __file__, "--results"]
    done = subprocess.run(command, env=os.environ | PLAIN, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.startswith("time_")} for row in csv.DictReader(file)
        ]


def record(names: list[str], keep: bool) -> None:
    folder = DATA / processor()
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with tempfile.TemporaryDirectory() as scratch, Program() as program:
            found = run(name, Path(scratch), program)
            if name == "cheetah" and not LABELS.exists():
                program("labels", "export", str(Path(scratch) / name), str(LABELS))
        for other in [] if keep else DATA.glob(f"*/{name}.csv"):
            other.unlink()
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, found[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
        print(name, len(found), "rows", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        _serve()
    elif sys.argv[1:] == ["--results"]:
        print(results())
    else:
        chosen = [word for word in sys.argv[1:] if word != "--keep"]
        record(chosen or list(RUNS), "--keep" in sys.argv)
