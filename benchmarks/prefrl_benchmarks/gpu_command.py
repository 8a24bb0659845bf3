"""The command `prefrl bench gpu`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from prefrl.config.request import parse_settings
from prefrl_benchmarks.requirements import need_writable


def gpu(
    *,
    parts: tuple[str, ...] = ("speed-pong", "speed-cheetah", "profile-pong", "profile-cheetah", "train-pong"),
    minutes: float = 9,
    device: Literal["cuda", "cpu"] = "cuda",
    alternations: int = 2,
    steps: int | None = None,
    labels: int | None = None,
    settings: Annotated[tuple[str, ...], arg(name="set", metavar="KEY=VALUE ...")] = (),
    runs: Path = Path("runs/gpu"),
    out: Path | None = None,
) -> int:
    """Measure training on a GPU in parts of a few minutes: speed, utilisation, what bounds it, returns.

    Args:
        parts: What to measure, as MEASUREMENT-TASK. `speed` compares training from labels with plain
            Stable-Baselines3, `profile` shows where the time goes, `train` starts or resumes a run from labels.
        minutes: Time of each part. Runs that are not finished by then are stopped.
        device: cuda, or cpu to try the command without a GPU.
        alternations: Number of runs of each kind in `speed`; ratios are taken within an alternation.
        steps: Total number of agent steps of each run (default: 6,000,000 for games, otherwise the recipe's).
        labels: Labels of each preference run (default: 5,500 for games, otherwise the recipe's).
        settings: Single settings that override the recipe, e.g. agent.n_envs=32.
        runs: Folder for the runs of `train`.
        out: JSON file for the results; parts that it holds already are kept.
    """
    from prefrl.machine.devices import choose_device

    choose_device(device)
    need_writable(out)
    from prefrl_benchmarks.measure.gpu import measure
    from prefrl_benchmarks.measure.gpu_parts import Plan
    from prefrl_benchmarks.measure.utilisation import find_reader

    budget: dict[str, Any] = {"steps": steps, "labels": labels, "settings": parse_settings("set", settings)}
    plan = Plan("", 60 * minutes, device, alternations, **budget, runs=runs, read=find_reader(device))
    return 1 if measure(parts, plan, out) else 0
