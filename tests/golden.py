"""Short synchronous runs whose figures a change of structure must not change.

`python tests/golden.py` writes what they give now to `tests/data/golden`. Run it only after a change that is meant to
change results, and say in the commit which of them changed and why.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).parent / "data" / "golden"
_SMALL = ("--mode", "sync", "--set", "round_steps=2048", "reward.pretrain_comparisons=320")
_PIXELS = ("--mode", "sync", "--set", "round_steps=2048", "reward.pretrain_comparisons=96")
RUNS: dict[str, list[tuple[str, ...]]] = {
    "cheetah": [("train", "cheetah", "--steps", "10240", "--labels", "60", "--seed", "1", *_SMALL)],
    "hopper": [("train", "hopper", "--steps", "10240", "--labels", "60", "--seed", "2", *_SMALL)],
    "pendulum": [("train", "pendulum", "--steps", "10000", "--labels", "60", "--seed", "3", *_SMALL)],
    "reacher": [("train", "reacher", "--steps", "10240", "--labels", "60", "--seed", "4", *_SMALL)],
    "reacher-a2c": [("train", "reacher", "--algo", "a2c", "--steps", "8192", "--labels", "60", "--seed", "5", *_SMALL)],
    "walker-trpo": [("train", "walker", "--algo", "trpo", "--steps", "8192", "--labels", "60", "--seed", "6", *_SMALL)],
    "moving-dot": [("train", "moving-dot", "--steps", "6144", "--labels", "24", "--seed", "7", *_PIXELS)],
    "cartpole": [("train", "CartPole-v1", "--steps", "10240", "--labels", "60", "--seed", "8", *_SMALL)],
    "mistake": [("train", "cheetah", "--teacher", "mistake", "--steps", "8192", "--labels", "60", "--seed", "9", *_SMALL)],
    "boltzmann": [
        ("train", "cheetah", "--teacher", "boltzmann", "--steps", "8192", "--labels", "60", "--seed", "10", *_SMALL)
    ],
    "comparisons": [
        ("train", "hopper", "--steps", "8192", "--labels", "60", "--seed", "11", *_SMALL, "reward.normalise_over=comparisons")
    ],
    "true-reward": [("train", "hopper", "--teacher", "none", "--steps", "8192", "--seed", "12", "--mode", "sync", "--set", "round_steps=2048")],
    "resumed": [
        ("train", "hopper", "--steps", "6144", "--labels", "40", "--seed", "13", *_SMALL),
        ("resume", "--steps", "12288", "--labels", "60"),
    ],
    "imported": [
        ("train", "cheetah", "--labels-from", "", "--labels", "80", "--steps", "8192", "--seed", "14", *_SMALL)
    ],
}  # fmt: skip
LABELS = DATA / "labels.zip"
"""Of a run of cheetah; `imported` starts from them."""

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


def run(name: str, folder: Path) -> list[dict[str, str]]:
    """The rows of `metrics.csv` that a run gives, without the columns that depend on the clock."""
    program = Path(sys.executable).with_name("prefrl")
    root = folder / name
    for command, *arguments in RUNS[name]:
        words = [str(LABELS) if word == "" else word for word in arguments]
        target = ["--out", str(root)] if command == "train" else []
        words = [str(root), *words] if command == "resume" else words
        full = [str(program), command, *words[:1], *target, *words[1:]]
        done = subprocess.run(full, env=os.environ | PLAIN, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(full)}: {done.stderr[-1000:]}")
    return rows(root / "metrics.csv")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.startswith("time_")} for row in csv.DictReader(file)
        ]


def record(names: list[str]) -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = run(name, Path(folder))
            if name == "cheetah" and not LABELS.exists():
                program = Path(sys.executable).with_name("prefrl")
                subprocess.run([program, "labels", "export", Path(folder) / name, LABELS], check=True)
        with (DATA / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, found[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
        print(name, len(found), "rows", flush=True)


if __name__ == "__main__":
    record(sys.argv[1:] or list(RUNS))
