"""The results of a probe: what each agent reaches by the reward model and by the task, as a table and a figure."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefrl.config.typed import conform
from prefrl.errors import DamagedFileError, UsageError
from prefrl.printable import printable
from prefrl.probing.found import Found
from prefrl.storage.files import read_json, write_atomically, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Outcome:
    """What one policy reaches. Returns are of whole episodes, at most 1,000 steps of each."""

    agent: str
    """Name of its run; `reference` for the reference itself."""
    beta: float | None
    """Coefficient of its KL penalty; None for the reference."""
    seed: int | None
    kl: float
    """Mean divergence from the reference per step, in nats."""
    predicted_return: float
    predicted_return_std: float
    true_return: float
    true_return_std: float
    occupancy_divergence: float | None
    """Divergence of the states that it visits from those of the reference, in nats."""

    @property
    def distance(self) -> float:
        """The square root of `kl`, by which Gao et al. (2022) plot over-optimisation."""
        return math.sqrt(max(self.kl, 0.0))


@dataclass(frozen=True)
class ProbeResults:
    """The results of a probe, as in `probe.json`."""

    run: str
    task: str
    labels: int
    """Labels from which the reward model has learned."""
    steps: int
    """Steps of each agent."""
    reference: str
    """`newest` or `initial`, the policy of the run that is the reference."""
    outcomes: list[Outcome]
    """The reference first, then the agents."""
    clips: list[Found]
    """The clips with the highest predicted excess over the reference."""
    queued: bool = False
    """Whether they have been put into the run's queue."""
    inputs: str = ""
    """Checksum of what the results were computed from, see `prefrl.probing.earlier`; empty in older files."""

    def write(self, folder: Path) -> list[Path]:
        """Write `probe.json`, `probe.csv` and, if matplotlib is installed, `probe.png`; return their paths."""
        paths = [folder / "probe.json", folder / "probe.csv"]
        write_json(paths[0], dataclasses.asdict(self))
        write_atomically(paths[1], _table(self.outcomes).encode())
        if importlib.util.find_spec("matplotlib"):
            paths.append(folder / "probe.png")
            write_atomically(paths[2], figure(self))
        return paths

    def lines(self) -> list[str]:
        """Describe the results in lines for the user."""
        lines = [f"{'agent':<22} {'sqrt(KL)':>9} {'predicted return':>20} {'true return':>20}"]
        for each in self.outcomes:
            predicted = f"{each.predicted_return:.1f} ± {each.predicted_return_std:.1f}"
            true = f"{each.true_return:.1f} ± {each.true_return_std:.1f}"
            lines.append(f"{each.agent:<22} {each.distance:>9.2f} {predicted:>20} {true:>20}")
        return lines


def read_results(folder: Path) -> ProbeResults:
    """Read the results of a finished probe.

    Raises:
        UsageError: if there are none in this folder.
        DamagedFileError: if they are damaged.
    """
    path = folder / "probe.json"
    if not path.is_file():
        raise UsageError(f"{printable(folder)} holds no finished probe")
    try:
        found: ProbeResults = conform(ProbeResults, read_json(path), "")
    except UsageError as error:
        raise DamagedFileError(f"{printable(path)} is damaged: {error}") from None
    return found


def _table(outcomes: Sequence[Outcome]) -> str:
    text, columns = io.StringIO(), [each.name for each in dataclasses.fields(Outcome)]
    writer = csv.DictWriter(text, [*columns, "sqrt_kl"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(each) | {"sqrt_kl": each.distance} for each in outcomes)
    return text.getvalue()


def figure(results: ProbeResults) -> bytes:
    """Draw the results: a PNG image, see `draw`."""
    content = io.BytesIO()
    draw(results).savefig(content, format="png", dpi=150)
    return content.getvalue()


def draw(results: ProbeResults) -> Figure:
    """Draw predicted return, and below it true return, against the square root of the divergence.

    The reference is a diamond, and a line to compare the agents with.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    drawn = Figure(figsize=(6, 5.5), layout="constrained")
    panels = drawn.subplots(2, sharex=True)
    for axes, name, colour in zip(panels, ("predicted", "true"), ("tab:orange", "tab:blue"), strict=True):
        _draw(axes, results.outcomes, name, colour)
    panels[0].legend(loc="best", fontsize="small")
    panels[1].set_xlabel("square root of the KL divergence from the reference, per step")
    drawn.align_ylabels()
    drawn.suptitle(f"{results.task}: agents on a reward model of {results.labels} labels")
    return drawn


def _draw(axes: Axes, outcomes: Sequence[Outcome], name: str, colour: str) -> None:
    """Draw the predicted or the true returns into a panel."""
    agents = sorted(outcomes[1:], key=lambda each: each.distance)
    for told, shown, mark, tone in (("agents", agents, "o-", colour), ("reference", outcomes[:1], "D", "black")):
        means = [getattr(each, f"{name}_return") for each in shown]
        spread = [getattr(each, f"{name}_return_std") for each in shown]
        axes.errorbar([each.distance for each in shown], means, spread, fmt=mark, color=tone, capsize=2, label=told)
    for reference in outcomes[:1]:
        axes.axhline(getattr(reference, f"{name}_return"), color="black", linewidth=0.8, linestyle=":")
    axes.set_ylabel(f"{name} return")
