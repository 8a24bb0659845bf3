"""The random streams of the package, named by purpose. Each purpose and each key has a stream of its own.

These random numbers come from other generators, which other libraries seed:

- Stable-Baselines3's minibatches and actions: NumPy's and torch's global generators, seeded by the run's seed.
- Initial weights and dropout: torch's generators, seeded by the run's seed for the policy and for the reward model.
- Environments: environment i of a run is reset with seed + i. Gymnasium seeds its generator as `batches` is seeded.
- Environments outside a run: seeds 0, 1, … (clip length, return of the random policy), or `prefrl play --seed`.
- Bootstrap intervals of the benchmarks: seed 0, so that published intervals can be reproduced.

The results of synchronous runs depend on all of these, so they must not change.
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
    "crops",
    "pseudo-labels",
    "study",
    "reference",
    "probe",
    "demonstrations",
    "imitation",
    "can't tell",
]
"""What a stream is used for. The first three seed their generators as older versions do, so that runs are reproducible.

- queries: the candidate pairs;
- batches: the reward learner's minibatches;
- bootstrap: how often a comparison is in each member's bootstrap sample (key: the answer's id);
- teacher: the errors and ties of a simulated teacher (keys: the query's round and rank);
- holdout: the labels held out when a reward model is fitted offline;
- repeats: the pair that a person is asked again (key: the number of repeats so far);
- evaluation: the environments in which a policy is evaluated;
- random actions, made-up clips: actions and clips of the benchmarks;
- crops: the crops of segments in a gradient step of the reward model (keys: its number, 1 for pseudo-labels);
- pseudo-labels: the unlabelled pairs of a gradient step (key: its number);
- study: the experiments of studies that train no run;
- reference: the environments in which the reference policy of a KL penalty is played;
- probe: the clips of the reference that a probe compares with, and their order; its environments;
- demonstrations: the batches of behaviour cloning, and (key: 1) the pairs of automatic labels;
- imitation: the segments that are imitated and the batches (key: the number of the imitation);
- can't tell: the initial weights of the model of which queries can be told, and the folds of cross-validation.
"""

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
_LARGEST = 2**32
_HALF = 2**63
_LONGEST_NAME = 16


def stream(seed: int, purpose: Purpose, *keys: int) -> np.random.Generator:
    """Return a new generator for a purpose, at the start of its stream.

    Args:
        seed: The seed of the run or benchmark, in [0, 2^32).
        purpose: What the stream is used for.
        keys: Select one of many streams of this purpose; each in [-2^63, 2^63).

    Raises:
        ValueError: if the purpose is unknown, or the seed or a key is out of range.
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
    # Not `[seed, purpose, *keys]`: NumPy pads entropy with zeros, so that sequences of different lengths can collide.
    # Each key always takes two words; otherwise one large key could equal two small ones.
    name = np.frombuffer(purpose.encode().ljust(_LONGEST_NAME), "<u4").tolist()
    words = [word for key in keys for word in divmod(key % 2**64, _LARGEST)]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=[*name, *words]))


def environment_seed(seed: int, purpose: Purpose, *keys: int) -> int:
    """Return an environment seed in [0, 2^31), drawn from the stream of a purpose; arguments as for `stream`."""
    return int(stream(seed, purpose, *keys).integers(2**31))
