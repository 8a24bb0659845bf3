"""The published recipes of preference learning on SAC: PEBBLE and what was built on it.

The sources are the authors' code. The tasks are those of the extra `bpref`; on other tasks, the settings are those of
walker-walk.
"""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]

MANIPULATION = ("button-press", "sweep-into", "drawer-open", "window-open", "door-open", "hammer")
"""The tasks of Meta-World."""
_LONG = ("walker-run", "cheetah-run", "quadruped-walk", "quadruped-run", *MANIPULATION)
"""Tasks of a million steps; the others have half a million."""

WITHOUT: Settings = {
    "off_policy.recent_steps": 0,
    "exploration.state_entropy": 0.0,
    "reward.members": 3,
    "queries.selection": "variance",
}
"""What neither the paper nor PEBBLE has of the default of `--algo sac`."""

PEBBLE: Settings = WITHOUT | {
    "steps": 500_000,
    "round_steps": 5000,  # of which sessions are multiples
    # One environment and an update after each step.
    "agent.n_envs": 1,
    "agent.n_steps": 1,
    "agent.learning_rate": 5e-4,
    "agent.batch_size": 1024,
    "agent.net_arch": [1024, 1024],
    "agent.gamma": 0.99,
    "off_policy.random_steps": 1000,
    "off_policy.updates_per_step": 1.0,
    "off_policy.tau": 0.005,
    "off_policy.target_interval": 2,
    "off_policy.alpha": 0.1,
    "off_policy.alpha_learning_rate": 1e-4,
    "off_policy.log_std_min": -5.0,
    "off_policy.log_std_bound": "tanh",
    "off_policy.fresh_critic": True,
    "off_policy.fresh_updates": 100,
    "exploration.steps": 10_000,
    "exploration.neighbours": 5,
    "reward.hidden": [256, 256, 256],
    "reward.output": "tanh",
    "reward.normalise_inputs": False,
    "reward.normalise_over": "none",
    "reward.bootstrap": False,
    "reward.l2": 0.0,
    "reward.error": 0.0,
    "reward.learning_rate": 3e-4,
    "reward.batch_size": 128,
    "reward.buffer": 100_000,
    "reward.epochs": 50,
    "reward.stop_accuracy": 0.97,
    "queries.initial_fraction": 0.1,  # B-Pref's sessions on locomotion are of a tenth of the labels
    "queries.session_steps": 20_000,
    "queries.segment_length": 50,
    "queries.candidate_factor": 10,
    "queries.pool": 2000,
    "queries.pool_episodes": 100,
    "evaluation.every": 10_000,
    "evaluation.every_episodes": 10,
    "off_policy.actor_interval": 1,
    "off_policy.layer_norm": False,
}
"""PEBBLE (Lee, Smith and Abbeel, 2021) as in B-Pref's code."""

PEBBLE_TASKS: dict[str, Settings] = {
    **{name: {"steps": 1_000_000} for name in _LONG},
    **{
        name: {"steps": 1_000_000, "agent.learning_rate": 1e-4, "queries.session_steps": 30_000}
        for name in ("quadruped-walk", "quadruped-run")
    },
    **{
        name: {
            "steps": 1_000_000,
            "agent.learning_rate": 3e-4,
            "agent.batch_size": 512,
            "agent.net_arch": [256, 256, 256],
            "reward.epochs": 10,
            "queries.initial_fraction": 1 / 200,
            "queries.session_steps": 5000,
        }
        for name in MANIPULATION
    },
}

SURF: Settings = PEBBLE | {
    "reward.pseudo_threshold": 0.99,
    "reward.pseudo_weight": 1.0,
    "reward.pseudo_ratio": 4,
    "reward.crop": [45, 55],
    "queries.segment_length": 60,
}
"""SURF (Park et al., 2022)."""

RUNE: Settings = PEBBLE | {"exploration.disagreement": 0.05, "exploration.disagreement_decay": 1e-5}
"""RUNE (Liang et al., 2022)."""
RUNE_TASKS: dict[str, Settings] = PEBBLE_TASKS | {
    "drawer-open": PEBBLE_TASKS["drawer-open"] | {"exploration.disagreement_decay": 1e-3},
}

QPA: Settings = PEBBLE | {
    "reward.members": 1,
    "reward.epochs": None,
    "reward.session_steps": 2000 / 128,
    "reward.stop_accuracy": 0.98,
    "reward.stop_over": "session",
    "reward.crop": [35, 45],
    "reward.crop_copies": 20,
    "queries.selection": "random",
    "queries.pool_episodes": 10,
    "off_policy.recent_steps": 10_000,
    "off_policy.recent_fraction": 0.5,
}
"""QPA (Hu et al., 2024): queries from the newest ten episodes, of which half of each batch is drawn."""
_QPA_MANIPULATION: Settings = {
    "reward.epochs": 200,
    "reward.session_steps": None,
    "reward.stop_accuracy": 0.97,
    "reward.stop_over": "pass",
    "reward.crop": None,
    "reward.crop_copies": 1,
    "queries.initial_fraction": 0.01,
    "queries.pool_episodes": 30,
    "off_policy.recent_steps": 15_000,
}
"""The values that its code has for drawer-open."""
QPA_TASKS: dict[str, Settings] = {
    name: settings | (_QPA_MANIPULATION if name in MANIPULATION else {}) for name, settings in PEBBLE_TASKS.items()
}
QPA_TASKS["door-open"] = QPA_TASKS["door-open"] | {"queries.pool_episodes": 60, "off_policy.recent_steps": 30_000}
