"""Figures of the agent's behaviour since the last row of the metrics: entropies, and its distance from a reference."""

from __future__ import annotations

import torch

from prefrl.agents.distributions import divergence
from prefrl.agents.state_statistics import knn_divergence, knn_entropy, state_features
from prefrl.arrays import Array
from prefrl.parts import Parts
from prefrl.runs.metrics import Row

_IMAGES = 64
"""Number of images that are shown to the policy; a policy for images is slow."""


def behaviour(parts: Parts) -> Row:
    """Measure the agent's behaviour in a sample of the states that it has visited since the last call.

    Returns:
        `policy_entropy` and `kl_to_reference`, means over these states for the current policy; `state_entropy` and
        `occupancy_divergence` of the states themselves. Those that cannot be computed are missing or None.
    """
    states = parts.env.visited.take()
    if not len(states):
        return {}
    shown = states[:: max(1, len(states) // _IMAGES)] if parts.config.images else states
    with torch.no_grad():
        row = _policy(parts, shown)
    features = state_features(states)
    row["state_entropy"] = knn_entropy(features)
    if parts.reference:
        row["occupancy_divergence"] = knn_divergence(features, parts.reference.states)
    return row


def _policy(parts: Parts, states: Array) -> Row:
    policy = parts.agent.distribution(states)
    row: Row = {"policy_entropy": float(policy.entropy().mean())}
    if parts.reference and parts.compares:
        row["kl_to_reference"] = float(divergence(policy, parts.reference.distribution(states)).mean())
    if parts.penalty:
        row["kl_beta"] = parts.penalty.beta
    return row
