import dataclasses
import json

import pytest

from prefrl.config import QueryConfig, RewardConfig, RunConfig, replace
from prefrl.errors import UsageError
from prefrl.feedback.feasibility import check_feedback

CONFIG = RunConfig("hopper", "prefrl/Hopper-v0", horizon=1000)


def test_a_configuration_comes_back_from_json():
    config = replace(CONFIG, {"agent.net_arch": [32, 16], "queries.schedule_constant": 5e4, "mode": "sync", "seed": 3})
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_defaults_are_the_paper_s():
    reward, queries = RewardConfig(), QueryConfig()
    assert (reward.members, reward.hidden, reward.negative_slope) == (3, (64, 64), 0.01)
    assert (reward.error, reward.target_std, reward.buffer) == (0.1, 1.0, 3000)
    assert (reward.validation_low, reward.validation_high) == (1.1, 1.5)
    assert (queries.labels, queries.initial_fraction, queries.candidate_factor) == (700, 0.25, 10)
    assert (queries.selection, reward.loss) == ("variance", "bradley-terry")
    assert queries.initial_labels == 175


@pytest.mark.parametrize(
    ("labels", "fraction", "initial"), [(700, 0.25, 175), (1, 0.25, 1), (3, 0.1, 1), (10, 1.0, 10)]
)
def test_initial_labels_are_the_fraction_and_at_least_one(labels, fraction, initial):
    assert QueryConfig(labels=labels, initial_fraction=fraction).initial_labels == initial


def test_the_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIG.steps = 3


def test_dotted_settings_change_a_copy():
    changed = replace(CONFIG, {"reward.members": 5, "steps": 10, "queries.schedule_constant": None})
    assert (changed.reward.members, changed.steps, changed.queries.schedule_constant) == (5, 10, None)
    assert CONFIG.reward.members == 3
    assert replace(changed, {"reward.members": 3, "steps": CONFIG.steps}) == CONFIG


@pytest.mark.parametrize("name", ["nothing", "reward.nothing", "reward", "reward.members.more", "", "nothing.members"])
def test_a_setting_that_does_not_exist_is_refused(name):
    with pytest.raises(UsageError, match="no setting"):
        replace(CONFIG, {name: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reward.members", "3"),
        ("reward.members", 3.0),
        ("reward.members", True),
        ("reward.members", None),
        ("reward.error", "0.1"),
        ("reward.error", float("nan")),
        ("reward.learning_rate", float("inf")),
        ("reward.error", True),
        ("agent.net_arch", 64),
        ("agent.net_arch", ["64"]),
        ("agent.learning_rate_decay", 1),
        ("mode", "both"),
        ("algo", 3),
        ("queries.selection", "best"),
        ("agent.activation", "sine"),
        ("horizon", "1000"),
        ("queries.schedule_constant", float("nan")),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name, value):
    with pytest.raises(UsageError, match=name.split(".")[-1]):
        replace(CONFIG, {name: value})


def test_whole_numbers_serve_where_a_fraction_is_asked_for():
    error = replace(CONFIG, {"reward.error": 0}).reward.error
    assert error == 0.0
    assert isinstance(error, float)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", -5),
        ("seed", -1),
        ("round_steps", 0),
        ("agent.n_envs", 0),
        ("agent.n_steps", 0),
        ("agent.batch_size", 0),
        ("agent.learning_rate", 0.0),
        ("agent.gamma", -0.1),
        ("agent.gamma", 1.1),
        ("agent.gae_lambda", -0.1),
        ("agent.net_arch", [0]),
        ("reward.members", 0),
        ("reward.batch_size", 0),
        ("reward.buffer", 15),
        ("reward.pretrain_comparisons", 0),
        ("reward.error", 1.0),
        ("reward.error", -0.1),
        ("reward.learning_rate", -1.0),
        ("reward.target_std", 0.0),
        ("reward.comparisons_per_step", -0.1),
        ("reward.l2", -1e-4),
        ("reward.l2_rate", 1.0),
        ("reward.validation_low", 1.6),
        ("reward.hidden", [64, 0]),
        ("queries.labels", 0),
        ("queries.labels", -700),
        ("queries.segment_length", 0),
        ("queries.candidate_factor", 0),
        ("queries.candidate_clips", 1),
        ("queries.pool", 1),
        ("queries.initial_fraction", 0.0),
        ("queries.initial_fraction", 1.1),
        ("queries.schedule_constant", -1.0),
        ("queries.schedule_constant", 0.0),
        ("queries.schedule_bins", -1),
    ],
)
def test_numbers_that_cannot_work_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name.split(".")[-1]):
        replace(CONFIG, {name: value}).validate()


def test_the_baseline_needs_no_reward_model():
    assert replace(CONFIG, {"teacher": "none", "reward.members": 0, "queries.labels": 0}).validate()


def test_a_clip_longer_than_an_episode_is_refused():
    replace(CONFIG, {"queries.segment_length": 1000}).validate()
    with pytest.raises(UsageError, match="1001 steps is longer than an episode"):
        replace(CONFIG, {"queries.segment_length": 1001}).validate()


def test_more_labels_than_distinct_pairs_are_refused():
    few = {"agent.n_envs": 1, "steps": 300, "queries.segment_length": 30}  # ten segments
    assert replace(CONFIG, few).segments_in_run == 10
    check_feedback(replace(CONFIG, few | {"queries.labels": 45}))
    with pytest.raises(UsageError, match="46 labels are more than the 45 distinct pairs"):
        check_feedback(replace(CONFIG, few | {"queries.labels": 46}))
    check_feedback(replace(CONFIG, few | {"queries.labels": 46, "teacher": "none"}))


@pytest.mark.parametrize(
    ("horizon", "envs", "steps", "length"),
    [(1000, 8, 300_000, 60), (50, 8, 8000, 15), (50, 2, 260, 15), (None, 4, 1000, 30), (100, 8, 7, 5)],
)
def test_segments_that_a_run_can_cut(horizon, envs, steps, length):
    config = replace(
        CONFIG, {"horizon": horizon, "agent.n_envs": envs, "steps": steps, "queries.segment_length": length}
    )
    per_env, counted, time = steps // envs, 0, 0
    for _ in range(per_env):  # by walking through it
        time += 1
        counted += time % length == 0
        time = 0 if time == horizon else time
    assert config.segments_in_run == counted * envs


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "config",
        {},
        {"task": "hopper"},
        CONFIG.to_json() | {"surprise": 1},
        CONFIG.to_json() | {"agent": None},
        CONFIG.to_json() | {"agent": {"surprise": 1}},
        CONFIG.to_json() | {"steps": "many"},
        CONFIG.to_json() | {"steps": -1},
    ],
)
def test_a_configuration_that_somebody_spoiled_is_refused(data):
    with pytest.raises(UsageError):
        RunConfig.from_json(data)


def test_a_run_without_a_teacher_learns_no_reward():
    assert CONFIG.learns_reward
    assert not replace(CONFIG, {"teacher": "none"}).learns_reward
