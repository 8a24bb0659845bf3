"""Take apart what a run's labels teach: the measurement of `prefrl bench anatomy`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from prefrl.errors import PrefrlError
from prefrl.feedback.kinds import kinds_of
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.refit import LabelledClips, Report, labelled_clips
from prefrl.runs.directory import commit, version
from prefrl.trained.playing import Policy, load_policy
from prefrl_benchmarks.measure.anatomy.alignment import Scored, around, deviation_far, relations, resolution
from prefrl_benchmarks.measure.anatomy.fits import Fit, decided, fit_all
from prefrl_benchmarks.measure.anatomy.games import Game, play_games, scored
from prefrl_benchmarks.measure.anatomy.request import AnatomyRequest
from prefrl_benchmarks.results import machine


@dataclass(frozen=True)
class Anatomy:
    """The result of the measurement."""

    about: dict[str, Any]
    fits: list[Fit]
    games: list[Game]
    scored: dict[str, list[Scored]]
    """The games as scored by each variant's reward model with the most labels."""
    models: dict[str, dict[str, Any]]
    """How the predicted reward of each of these models lies along the games."""

    def to_json(self) -> dict[str, Any]:
        """Convert to plain data."""
        games = [
            {"noise": game.noise, "steps": len(game.true), "true_return": float(game.true.sum()), "cut": game.cut}
            for game in self.games
        ]
        fits = [dataclasses.asdict(fit) | {"member_accuracy": fit.member_accuracy} for fit in self.fits]
        return self.about | {"fits": fits, "games": games, "models": self.models}


def measure(request: AnatomyRequest, report: Report, keep: Callable[[list[Fit]], None]) -> Anatomy:
    """Fit reward models to a run's labels, judge them, and score games of its policy with them.

    Args:
        request: What to fit and to play.
        report: Called with the progress.
        keep: Called after each fit with all so far.

    Raises:
        UsageError: if there are fewer usable labels than asked for, or a network cannot read the observations.
        PrefrlError: if no held-out label is decided, or the run has no policy to play.
    """
    config = request.run.config
    policy = load_policy(request.run.root) if plays(request) else None
    clips = labelled_clips(request.run)
    training, held_out = request.split(clips.labels)
    judging = decided(next(iter(kinds_of(config).values())), held_out)
    if not training or not judging:
        raise PrefrlError(f"{request.run.root} has {len(clips.labels)} labels: too few to hold out any that is no tie")
    fits: list[Fit] = []
    models: dict[str, RewardEnsemble] = {}
    for fit, ensemble in fit_all(request, clips, training, judging, report):
        fits.append(fit)
        if fit.seed == 0:
            models[fit.variant] = ensemble  # the last has the most labels
        keep(fits)
    about = _about(request, clips, len(training), len(held_out), len(judging))
    games = _play(request, policy, models, report) if policy else []
    found = {name: scored(games, name) for name in models} if games else {}
    lying = {name: _along(name, games, each, config.agent.gamma) for name, each in found.items()}
    return Anatomy(about, fits, games, found, lying)


def plays(request: AnatomyRequest) -> bool:
    """Whether games are played: they tell nothing without a true reward."""
    return bool(request.games.noise) and request.run.config.true_reward


def _about(request: AnatomyRequest, clips: LabelledClips, training: int, held_out: int, judging: int) -> dict[str, Any]:
    config = request.run.config
    labels = {"standing": len(clips.labels), "training": training, "held_out": held_out, "held_out_decided": judging}
    variants = {variant.name: variant.settings for variant in request.variants}
    about: dict[str, Any] = {
        "run": str(request.run.root),
        "task": config.task,
        "feedback": config.feedback,
        "labels": labels,
    }
    about |= {"variants": variants, "comparisons": request.comparisons, "gamma": config.agent.gamma}
    return about | {"machine": machine(), "version": version(), "commit": commit()}


def _play(request: AnatomyRequest, policy: Policy, models: dict[str, RewardEnsemble], report: Report) -> list[Game]:
    """Play the games with each fraction of random actions. The policy's actions are sampled, as in training."""
    config, episodes, games = request.run.config, request.games.episodes, []
    for noise in request.games.noise:
        tell = partial(_tell, report, f"playing {episodes} games with {noise:.0%} random actions")
        act = partial(policy.choose, deterministic=False)
        games += play_games(config, act, models, noise=noise, episodes=episodes, tell=tell)
    return games


def _tell(report: Report, phase: str, ended: int) -> None:
    report(phase, 0, 0)


def _along(name: str, games: Sequence[Game], each: Sequence[Scored], gamma: float) -> dict[str, Any]:
    """Describe how the predicted reward of a model lies along the games, all of them and by noise."""
    by_noise = {
        f"{noise:g}": relations([one for one, game in zip(each, games, strict=True) if game.noise == noise], gamma)
        for noise in dict.fromkeys(game.noise for game in games)
    }
    return {
        "relations": relations(each, gamma),
        "relations_by_noise": by_noise,
        "around_positive": around(each, 1),
        "around_negative": around(each, -1),
        "far": deviation_far(each),
        "members": resolution(np.concatenate([game.outputs[name].numpy() for game in games], axis=1)),
    }


def report_lines(result: Anatomy) -> list[str]:
    """A table of the fits, and for each reward model how its prediction lies along the games."""
    told = result.about["labels"]
    lines = [f"judged by {told['held_out_decided']} held-out labels that are no ties, of {told['held_out']}"]
    lines += ["variant          labels  seed  ties  accuracy  members  unseen clips  log loss  CPU time"]
    for fit in result.fits:
        line = f"{fit.variant:16} {fit.labels:6}  {fit.seed:4}  {fit.tie_share:4.0%}  {fit.accuracy:8.3f}"
        line += f"  {fit.member_accuracy:7.3f}  {_number(fit.unseen_accuracy):>5} of {fit.unseen:3}"
        lines.append(f"{line}  {fit.log_loss:8.3f}  {fit.cpu_seconds:7.1f}s")
    for name, found in result.models.items():
        scales = ", ".join(f"{scale} {_number(each['correlation'])}" for scale, each in found["relations"].items())
        lines.append(f"{name}: correlation with the true reward by {scales}")
        agreed, levels = found["relations"]["step"]["agreement"], [each["levels"] for each in found["members"]]
        values = f"members' outputs take {min(levels):,} to {max(levels):,} values"
        lines.append(f"{name}: agreement at steps with a reward {_number(agreed)}; {values}")
        at = {sign: found[f"around_{sign}"] for sign in ("positive", "negative")}
        peaks = [f"{_extreme(each, sign)} around {sign} rewards (n = {each['steps']})" for sign, each in at.items()]
        lines.append(f"{name}: predicted {' and '.join(peaks)}; deviation far from both {_number(found['far']['std'])}")
    return lines


def _extreme(found: dict[str, Any], sign: str) -> str:
    """Return the highest or lowest mean of the offsets, and where it is."""
    known = [(mean, offset) for mean, offset in zip(found["mean"], found["offsets"], strict=True) if mean is not None]
    if not known:
        return "nothing"
    mean, offset = max(known) if sign == "positive" else min(known)
    return f"{mean:+.2f} at {offset:+}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
