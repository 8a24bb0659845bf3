"""Every random stream of the package, by the name of its purpose: no two purposes, and no two keys of one, share one.

What is not drawn here, since others' libraries seed it by the run's seed: Stable-Baselines3's minibatches and actions
(NumPy's and torch's global generators), initial weights and dropout (torch's, seeded alike for the policy and for the
reward model), and the environments, of which the i-th of a run is reset with seed + i and draws from the generator that
`batches` is for that seed. Those decide what synchronous runs give, and stay as they are. So do the seeds with which
environments are looked at outside a run: 0, 1, … (the length of a clip, the random policy's return) or what a person
names (`prefrl play --seed`); and the resamples of the benchmarks' intervals, seeded with 0, by which what is published
can be computed again.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Purpose = Literal[
    "queries",
    "batches",
    "bootstrap",
    "teacher",
    "holdout",
    "repeats",
    "evaluation",
    "random actions",
    "made-up clips",
]
"""What chance decides. The first three are the streams that runs have always had, so that they still repeat themselves:

- queries: which pairs are candidates;
- batches: the reward learner's, from each member's bootstrap;
- bootstrap: how often each member's has a comparison (key: the answer's id);
- teacher: a simulated teacher's moods (keys: the query's round and rank);
- holdout: the labels by which a reward model fitted offline is judged;
- repeats: the pair that a person is asked again (key: how many were);
- evaluation: environments in which a policy is evaluated;
- random actions, made-up clips: what benchmarks step and label.
"""

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
_LARGEST = 2**32
_HALF = 2**63
_LONGEST_NAME = 16


def stream(seed: int, purpose: Purpose, *keys: int) -> np.random.Generator:
    """The generator of one purpose, from its beginning.

    Args:
        seed: The run's seed, or a benchmark's; in [0, 2^32).
        purpose: What it is for.
        keys: Which of many such draws it is; each in [-2^63, 2^63).

    Raises:
        ValueError: for a purpose that there is not, or numbers out of range.
    """
    if not 0 <= seed < _LARGEST or not all(-_HALF <= key < _HALF for key in keys):
        raise ValueError(f"no stream has the seed {seed} and the keys {keys}")
    if purpose == "queries" and not keys:
        return np.random.default_rng([seed, 1])
    if purpose == "batches" and not keys:
        return np.random.default_rng(seed)
    if purpose == "bootstrap" and len(keys) == 1:
        return np.random.Generator(np.random.Philox(key=[seed, *keys]))
    if purpose not in PURPOSES:
        raise ValueError(f"no stream is for {purpose}")
    # Not `[seed, purpose, *keys]`: NumPy takes entropy that is shorter for the same with zeros behind it. And each key
    # is two words whatever it is: a large one would be taken for two small ones.
    name = np.frombuffer(purpose.encode().ljust(_LONGEST_NAME), "<u4").tolist()
    words = [word for key in keys for word in divmod(key % 2**64, _LARGEST)]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=[*name, *words]))


def environment_seed(seed: int, purpose: Purpose, *keys: int) -> int:
    """A seed in [0, 2^31), for an environment, from the stream of a purpose; arguments as for `stream`."""
    return int(stream(seed, purpose, *keys).integers(2**31))
