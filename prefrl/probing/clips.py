"""The clips of a probe: those with the highest predicted excess over the reference, as queries for a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from prefrl.arrays import Floats
from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.probing.found import Found
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.seeding import stream


def sums(segments: Sequence[Segment], ensemble: RewardEnsemble) -> Floats:
    """Return the predicted sum of rewards of each of N segments: (N,)."""
    kept = torch.from_numpy(np.stack([ensemble.inputs.features(segment) for segment in segments]))
    steps = ensemble.inputs.steps(kept)
    rewards = ensemble.reward(steps.flatten(0, 1)).reshape(steps.shape[:2])
    return np.asarray(rewards.sum(dim=1).cpu().numpy())


def highest(
    found: dict[str, Sequence[Segment]],
    usual: Sequence[Segment],
    ensemble: RewardEnsemble,
    folder: Path,
    *,
    count: int,
    arity: int,
    seed: int,
) -> list[Found]:
    """Write the clips with the highest predicted excess, each with clips of the reference to compare it with.

    Args:
        found: Clips by the agents' names.
        usual: Clips of the reference.
        ensemble: The reward model.
        folder: A new folder for the clips.
        count: Number of clips.
        arity: Number of clips that a query shows.
        seed: Seed of the choice of the reference's clips and of the order.

    Returns:
        The clips, highest excess first.
    """
    candidates = [(name, segment) for name, segments in found.items() for segment in segments]
    if not candidates or len(usual) < max(1, arity - 1):
        return []
    scores = sums([segment for _, segment in candidates], ensemble) - sums(usual, ensemble).mean()
    true = float(np.mean([segment.true_rewards.sum() for segment in usual]))
    rng, clips, chosen = stream(seed, "probe"), ClipFolder(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for rank, place in enumerate(np.argsort(-scores, kind="stable")[:count]):
        name, segment = candidates[place]
        others = rng.choice(len(usual), arity - 1, replace=False)
        shown = [segment, *(usual[other] for other in others)]
        numbered = [dataclasses.replace(each, id=rank * arity + number) for number, each in enumerate(shown)]
        for each in numbered:
            clips.save(each)
            clips.save_scene(each)
        order = tuple(numbered[number].id for number in rng.permutation(arity))
        excess = float(segment.true_rewards.sum()) - true
        chosen.append(Found(name, float(scores[place]), excess, order))
    return chosen
