"""Probe a reward model: train fresh agents on it while it is frozen, and judge them by it and by the task."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from prefrl.agents.reference import Reference
from prefrl.api import create_run, resume
from prefrl.config import RunConfig
from prefrl.config.request import Request
from prefrl.config.schema import SYNC
from prefrl.errors import UsageError
from prefrl.experience.environments import reward_inputs
from prefrl.experience.segment import Segment
from prefrl.probing.clips import highest
from prefrl.probing.earlier import inputs_of, still_valid, with_what_was_queued
from prefrl.probing.judged import Judged, judge, outcome
from prefrl.probing.request import ProbeRequest
from prefrl.probing.results import Outcome, ProbeResults
from prefrl.registry import ALGORITHMS
from prefrl.rendering.renderer import make_segment_renderer
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.published import load_published
from prefrl.runs.control import Control, StopTraining
from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import read_metrics
from prefrl.seeding import environment_seed
from prefrl.trained.borrowing import borrow_reference, open_policy

Report = Callable[[str, int, int], None]
"""Called with what is done, and with how many of how many steps."""
_REFERENCE = "reference"


def probe(
    request: ProbeRequest,
    report: Report = lambda phase, done, wanted: None,
    *,
    control: Control | None = None,
    trust: Sequence[str] = (),
) -> ProbeResults:
    """Train the agents that are not trained yet, judge them, and write the results.

    The results of an earlier call are returned if nothing has changed since.

    Args:
        request: The sweep.
        report: Called with the progress.
        control: Stops the probe.
        trust: Modules that a run made by someone else may import to create its environment.

    Raises:
        UsageError: if an argument is invalid.
        StopTraining: if it was told to stop; the same call goes on where it stopped.
        PrefrlError: for other errors that a user can cause.
    """
    run = request.run.admit(trust)
    if (before := still_valid(request)) is not None:
        return before
    if request.watch:
        make_segment_renderer(run.config.env_id, run.config.env_kwargs).close()  # fails before agents are trained
    for beta, seed in request.agents:
        _train(request, beta, seed, report, control or Control())
    report("judging the agents", 0, 0)
    which: Literal["newest", "initial"] = "initial" if request.initial else "newest"
    config = dataclasses.replace(run.config, kl=dataclasses.replace(run.config.kl, policy=which))
    reference = borrow_reference(run.root, config)
    ensemble = RewardEnsemble(config.reward, reward_inputs(config))
    load_published(run.weights, ensemble)
    outcomes, usual, found = _judged(request, config, reference, ensemble)
    clips, folder, arity = [], request.clip_folder, request.kind.arity
    shutil.rmtree(folder, ignore_errors=True)
    if request.clips:
        clips = highest(found, usual, ensemble, folder, count=request.clips, arity=arity, seed=run.config.seed)
    rows = read_metrics(run.metrics)
    labels = int(rows[-1]["labels"] or 0) if rows else 0
    results = ProbeResults(str(run.root), config.task, labels, request.steps, which, outcomes, clips)
    results = with_what_was_queued(request, dataclasses.replace(results, inputs=inputs_of(request)))
    results.write(request.out)
    return results


def _judged(
    request: ProbeRequest, config: RunConfig, reference: Reference, ensemble: RewardEnsemble
) -> tuple[list[Outcome], Sequence[Segment], dict[str, Sequence[Segment]]]:
    """Judge the reference and all agents; return the outcomes, the reference's clips, and the agents' by name."""
    outcomes: list[Outcome] = []
    usual: Sequence[Segment] = ()
    found: dict[str, Sequence[Segment]] = {}
    for name, beta, seed, policy in _policies(request, config, reference):
        judged: Judged = judge(
            policy,
            reference,
            ensemble,
            config,
            episodes=request.episodes,
            seed=environment_seed(config.seed, "probe"),
            shown=request.watch or config.asks_people,
        )
        outcomes.append(outcome(name, beta, seed, judged))
        if name == _REFERENCE:
            usual = judged.segments
        else:
            found[name] = judged.segments
    return outcomes, usual, found


def _policies(
    request: ProbeRequest, config: RunConfig, reference: Reference
) -> Iterator[tuple[str, float | None, int | None, Reference]]:
    yield _REFERENCE, None, None, reference
    for beta, seed in request.agents:
        root = request.root(beta, seed)
        yield root.name, beta, seed, open_policy(root, config)


def _train(request: ProbeRequest, beta: float, seed: int, report: Report, control: Control) -> None:
    """Train one agent, or the rest of it.

    Raises:
        UsageError: if there is an agent of another probe.
        StopTraining: if it was told to stop.
    """
    root, wanted = request.root(beta, seed), _agent(request, beta, seed, request.root(beta, seed))
    if not (root / "config.json").exists():
        create_run(wanted)  # which also makes the folder of the probe, unless the request is invalid
    config = RunDirectory.open(root).config
    if (config.reward_model, config.kl.policy) != (wanted.chosen["reward_model"], wanted.chosen["kl.policy"]):
        raise UsageError(f"{root} is an agent of another probe: choose another --out")
    control.report = lambda progress: report(root.name, progress.step, progress.steps)
    if resume(root, steps=request.steps, control=control).summary is None:
        raise StopTraining


def _agent(request: ProbeRequest, beta: float, seed: int, root: Path) -> Request:
    """Return the request for an agent with the settings of the run's own agent."""
    config, path = request.run.config, request.run.root
    settings: dict[str, Any] = {
        f"{section}.{name}": value
        for section in ("agent", "off_policy", "evaluation")
        for name, value in dataclasses.asdict(getattr(config, section)).items()
    }
    settings |= {"round_steps": config.round_steps, "kl.policy": "initial" if request.initial else "newest"}
    settings |= {"evaluation.every": None, "evaluation.episodes": 0}
    settings = {name: value for name, value in settings.items() if ALGORITHMS[config.algo].uses(name)}
    return Request(
        config.task,
        algo=config.algo,
        reward=path,
        reference=path,
        kl=beta,
        seed=seed,
        steps=request.steps,
        mode=SYNC,
        device=config.device,
        out=root,
        settings=settings,
        env_kwargs=config.env_kwargs,
    )
