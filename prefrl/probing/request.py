"""The arguments of `prefrl reward probe`, which are checked before slow imports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from prefrl.errors import PrefrlError, UsageError
from prefrl.feedback.kinds import FeedbackKind, kinds_of
from prefrl.printable import printable
from prefrl.registry import ALGORITHMS
from prefrl.runs.directory import RunDirectory

BETAS = (0.0, 0.001, 0.01, 0.1, 1.0)
"""Default coefficients of the KL penalty."""
_MOST_AGENTS = 1000


@dataclass(frozen=True)
class ProbeRequest:
    """A sweep of fresh agents on the frozen reward model of a run."""

    run: RunDirectory
    out: Path
    """Folder of the agents' runs and of the results."""
    betas: tuple[float, ...]
    """Coefficients of the KL penalty, in units of the reward per nat."""
    seeds: tuple[int, ...]
    steps: int
    """Steps of each agent."""
    initial: bool
    """Whether the reference is the untrained policy that the run started from, and not its newest one."""
    episodes: int
    """Episodes that each policy is judged by."""
    clips: int
    """Number of clips with the highest predicted excess to keep."""
    watch: bool = False
    """Whether what is needed to show these clips is kept, also if no people label."""

    @property
    def agents(self) -> list[tuple[float, int]]:
        """The coefficient and the seed of each agent."""
        return [(beta, seed) for beta in self.betas for seed in self.seeds]

    @property
    def clip_folder(self) -> Path:
        """Folder of the kept clips."""
        return self.out / "clips"

    @property
    def kind(self) -> FeedbackKind:
        """The kind of query that the clips are asked with: of several, the first that shows the most clips."""
        return max(kinds_of(self.run.config).values(), key=lambda kind: kind.arity)

    def root(self, beta: float, seed: int) -> Path:
        """Return the run directory of an agent."""
        return self.out / f"kl-{beta:g}-seed-{seed}"


def probe_request(
    root: Path,
    *,
    kl: str | None = None,
    seeds: str = "0",
    steps: int | None = None,
    initial: bool = False,
    episodes: int = 10,
    clips: int = 10,
    watch: bool = False,
    out: Path | None = None,
) -> ProbeRequest:
    """Check the arguments.

    Args:
        root: The run directory.
        kl: Coefficients of the KL penalty, separated by commas; None for `BETAS`.
        seeds: Seeds of the agents, separated by commas.
        steps: Steps of each agent; None for as many as the run has.
        initial: Whether the reference is the run's untrained policy.
        episodes: Episodes that each policy is judged by.
        clips: Number of clips to keep.
        watch: Whether they are to be watched.
        out: Folder for the results; None for the run's name with `-probe` added.

    Raises:
        UsageError: if an argument is invalid, or the run has no reward model.
        PrefrlError: if the run has learned no reward yet, or its files are damaged.
    """
    run = RunDirectory.open(root)
    if not run.config.learns_reward:
        raise UsageError(f"{printable(root)} learns no reward: there is nothing to probe")
    if not ALGORITHMS[run.config.algo].penalised:
        raise UsageError(f"{run.config.algo} cannot be held near a reference policy, as a probe does")
    if not run.weights.exists() or not run.begun:
        raise PrefrlError(f"{printable(root)} has no learned reward yet")
    betas = BETAS if kl is None else tuple(_numbers("--kl", kl))
    chosen = tuple(map(int, _numbers("--seeds", seeds, whole=True)))
    for name, value in (("--steps", steps), ("--episodes", episodes)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1")
    if not 0 <= clips <= 10_000:
        raise UsageError("--clips must be in [0, 10000]")
    if watch and not clips:
        raise UsageError("--watch needs --clips of at least 1")
    if len(betas) * len(chosen) > _MOST_AGENTS:
        raise UsageError(f"--kl and --seeds ask for more than {_MOST_AGENTS} agents")
    out = root.with_name(f"{root.resolve().name}-probe") if out is None else out.expanduser()
    if out.exists() and not _is_probe(out):
        raise UsageError(f"{printable(out)} holds other files than a probe's: choose another --out")
    return ProbeRequest(run, out, betas, chosen, steps or run.config.steps, initial, episodes, clips, watch)


def _is_probe(folder: Path) -> bool:
    """Return whether a folder holds only what a probe writes."""
    ours = ("kl-", "probe.", "clips")
    return folder.is_dir() and all(path.name.startswith(ours) for path in folder.iterdir())


def _numbers(option: str, text: str, *, whole: bool = False) -> list[float]:
    """Parse distinct numbers that are separated by commas, and not negative."""
    numbers: list[float] = []
    for word in text.split(","):
        try:
            number = int(word) if whole else float(word)
        except ValueError:
            raise UsageError(f"{option}: {printable(word, 40)!r} is not a {'whole ' if whole else ''}number") from None
        if not 0 <= number < math.inf:
            raise UsageError(f"{option} must be finite and not negative")
        numbers += [] if number in numbers else [number]
    return numbers
