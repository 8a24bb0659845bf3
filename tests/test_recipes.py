import re
from pathlib import Path

import pytest
from test_tasks import FACTS

from prefrl.config import replace
from prefrl.errors import UsageError
from prefrl.recipes import ALGOS, IMAGES, RECIPES, TASKS, resolve, tables
from prefrl.recipes.ablations import PAPER_ABLATIONS
from prefrl.registry import ALGORITHMS
from prefrl.selection.schedule import labels_due

SOFT = {"sac", "tqc", "crossq"}


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("task", FACTS)
def test_every_task_and_algorithm_has_a_recipe_with_the_paper_s_method(task, algo):
    config = resolve(task, algo=algo)
    env_id, horizon, length, fps = FACTS[task]
    assert (config.task, config.env_id, config.horizon, config.algo) == (task, env_id, horizon, algo)
    assert (config.queries.segment_length, config.playback_fps) == (length, fps)
    # ... but for the pendulum, nearly all of whose clips show the same: it looks for others, and longer
    initial, factor = (70, 10_000) if task == "pendulum" else (175, 10)
    initial = 350 if algo in SOFT and task != "pendulum" and (task, algo) != ("cheetah", "sac") else initial
    assert (config.steps, config.queries.labels, config.queries.initial_labels) == (300_000, 700, initial)
    assert (config.reward.members, config.reward.error, config.reward.buffer) == (7 if algo in SOFT else 3, 0.1, 3000)
    assert (config.reward.target_std, config.queries.candidate_factor) == (1.0, factor)
    assert config.queries.selection == ("random" if algo in SOFT else "variance")
    assert config.queries.schedule_constant is None  # a tenth of the run
    assert config.reward.comparisons_per_step == (0.3 if task in {"swimmer", "reacher", "ant"} else 0.1)
    assert not config.hide_endings
    assert config.validate() is config


@pytest.mark.parametrize("algo", ALGOS)
def test_soft_actors_learn_from_what_they_do_now(algo):
    config = resolve("walker", algo=algo)
    assert config.queries.pool == (200 if algo in SOFT else 1000)
    assert config.off_policy.recent_steps == (10_000 if algo in SOFT else 0)


@pytest.mark.parametrize("algo", ALGOS)
def test_soft_actors_explore_before_half_of_the_labels_and_hold_the_reward_model_back(algo):
    config = resolve("walker", algo=algo)
    exploration, reward = config.exploration, config.reward
    found = exploration.steps, exploration.state_entropy, config.queries.initial_fraction, reward.l2, reward.members
    assert found == ((10_000, 0.2, 0.5, 0.1, 7) if algo in SOFT else (0, 0.0, 0.25, 1e-4, 3))


def test_sac_has_layer_normalisation_and_improves_its_actor_every_second_step():
    off = resolve("walker", algo="sac").off_policy
    assert (off.layer_norm, off.actor_interval) == (True, 2)


def test_exploration_takes_a_tenth_of_a_short_run():
    def explored(task="walker", **wanted):
        return resolve(task, **({"algo": "sac"} | wanted)).exploration.steps

    assert [explored(steps=steps) for steps in (20_001, 60_000, 100_000, 10**6)] == [2000, 6000, 10_000, 10_000]
    assert explored(steps=60_000, settings={"exploration.steps": 7}) == 7
    assert explored(steps=60_000, settings={"exploration.steps": 0}) == 0
    assert explored(feedback="rating") == 10_000
    assert explored(steps=500_000, settings={"exploration.steps": 20_000}) == 20_000


def test_with_people_an_agent_with_a_replay_memory_takes_a_tenth_of_the_steps():
    def scale(algo):
        config = resolve("walker", algo=algo, teacher="human")
        return config.steps, config.reward.comparisons_per_step * config.steps, config.queries.initial_labels

    assert scale("ppo") == (10_000_000, pytest.approx(100_000), 175)
    assert scale("sac") == (1_000_000, pytest.approx(100_000), 175)
    assert resolve("moving-dot", algo="sac", teacher="human").steps == 200_000
    assert resolve("pendulum", algo="sac", teacher="human").queries.initial_fraction == 0.1  # the task's own


def test_half_of_the_labels_come_first_only_if_they_are_about_exploration():
    def share(**wanted):
        return resolve("walker", algo="sac", **wanted).queries.initial_fraction

    assert share() == share(settings={"exploration.steps": 7}) == 0.5
    assert share(settings={"exploration.steps": 0}) == share(demonstrations="a-run") == 0.25
    assert share(settings={"queries.initial_fraction": 0.3}) == 0.3


@pytest.mark.parametrize("recipe", ["pebble", "surf", "rune", "qpa"])
def test_published_recipes_are_for_vectors(recipe):
    with pytest.raises(UsageError, match=f"--recipe {recipe} is for vectors"):
        resolve("moving-dot", algo="sac", recipe=recipe)


@pytest.mark.parametrize(("labels", "each"), [(100, 1), (250, 2), (500, 3), (900, 5), (1000, 5), (10_000, 50)])
def test_the_sessions_of_meta_world_spend_any_budget(labels, each):
    assert resolve("window-open", algo="sac", recipe="pebble", labels=labels).queries.initial_labels == each


def test_labels_on_meta_world_are_asked_at_an_even_rate():
    config = resolve("window-open", algo="sac", labels=400, steps=100_000)
    queries = config.queries
    due = [
        labels_due(
            step, budget=400, initial=queries.initial_labels, constant=queries.schedule_constant, horizon=100_000
        )
        for step in (0, 25_000, 50_000, 75_000)
    ]
    assert due == [40, 130, 220, 310]
    assert resolve("walker-walk", algo="sac").queries.schedule_constant is None


def test_exploration_needs_vectors_and_a_reward_that_is_learned():
    def explores(task, **wanted):
        exploration = resolve(task, **wanted).exploration
        return exploration.steps > 0, exploration.state_entropy > 0

    assert explores("walker", algo="sac") == (True, True)
    assert explores("walker", algo="sac", teacher="none") == (False, False)
    assert explores("walker", algo="sac", learner="imitation", feedback="rating") == (False, False)
    assert explores("moving-dot", algo="sac") == explores("pong", algo="qrdqn") == (False, False)
    assert explores("walker", algo="sac", recipe="pebble") == (True, False)
    assert explores("cheetah", algo="sac") == explores("window-open", algo="sac") == (False, False)
    assert explores("window-open", algo="sac", recipe="pebble") == (True, False)


def test_an_agent_that_imitates_or_is_held_near_a_reference_does_not_explore():
    def explores(**wanted):
        exploration = resolve("walker", algo="sac", **wanted).exploration
        return exploration.steps > 0, exploration.state_entropy > 0

    reference = Path("a-run")
    assert explores(demonstrations="a-run") == (False, False)
    assert explores(reference=reference, kl=0.1) == explores(reference=reference, kl_target=1.0) == (False, False)
    assert explores(reference=reference) == (True, True)  # it is only compared with the reference


@pytest.mark.parametrize("task", FACTS)
def test_the_paper_recipe_has_the_paper_s_absolute_constants(task):
    config = resolve(task, recipe="paper")
    assert config.steps == (2_000_000 if task == "pendulum" else 20_000_000)
    assert config.queries.schedule_constant == 2e6
    assert (config.queries.initial_fraction, config.queries.candidate_factor) == (0.25, 10)
    assert config.agent.ent_coef == (0.001 if task == "swimmer" else 0.01)
    assert (config.agent.gamma, config.agent.gae_lambda) == (0.995, 0.97)
    assert config.reward.comparisons_per_step == 0.1
    assert config.recipe == "paper"


def test_the_paper_s_entropy_bonus_is_for_learned_rewards_only():
    assert resolve("hopper", recipe="paper", teacher="none").agent.ent_coef == 0.0
    assert resolve("pendulum", recipe="paper", teacher="none").steps == 2_000_000


@pytest.mark.parametrize(
    ("ablation", "changes"),
    [
        ("random-queries", {"queries.selection": "random"}),
        ("no-ensemble", {"reward.members": 1, "queries.selection": "random"}),
        ("no-online", {"queries.initial_fraction": 1.0}),
        ("no-regularisation", {"reward.l2": 0.0}),
        ("no-segments", {"queries.segment_length": 1}),
        ("target", {"reward.loss": "true-reward"}),
    ],
)
def test_an_ablation_changes_what_the_paper_changes_and_nothing_else(ablation, changes):
    ablated = resolve("cheetah", ablation=ablation)
    assert ablated == replace(resolve("cheetah"), changes | {"ablation": ablation})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"ablation": "random-queries", "algo": "sac"},
            'random-queries changes nothing here, where queries.selection="random" anyway',
        ),
        ({"ablation": "no-regularisation", "algo": "sac", "recipe": "pebble"}, r"where reward\.l2=0\.0 anyway"),
        ({"ablation": "no-regularisation", "settings": {"reward.l2": 0}}, r"where reward\.l2=0\.0 anyway"),
    ],
)
def test_an_ablation_that_changes_nothing_is_refused(arguments, message):
    """Its runs would be compared with themselves."""
    with pytest.raises(UsageError, match=message):
        resolve("walker", **arguments)


def test_sac_with_the_paper_s_recipe_learns_the_reward_as_the_paper_does():
    ours, paper = (resolve("walker", algo=algo, recipe="paper") for algo in ("sac", "ppo"))
    assert ours.queries == paper.queries
    assert ours.exploration == paper.exploration
    assert ours.off_policy.recent_steps == 0
    differing = {name for name in vars(ours.reward) if getattr(ours.reward, name) != getattr(paper.reward, name)}
    assert differing == {"normalise_over"}
    assert resolve("walker", algo="sac").queries.selection == "random"


def test_people_s_runs_are_evaluated_as_a_recipe_says():
    assert resolve("walker", algo="sac", recipe="pebble", teacher="human").evaluation.every == 10_000
    assert resolve("walker", algo="sac", teacher="human").evaluation.every == 200_000


def test_all_six_ablations_of_the_paper_are_there():
    assert len(PAPER_ABLATIONS) == 6
    assert resolve("cheetah", ablation="no-online").queries.initial_labels == 700


def test_settings_come_over_everything_else():
    config = resolve("hopper", ablation="no-ensemble", settings={"reward.members": 4, "agent.gamma": 0.9})
    assert (config.reward.members, config.agent.gamma) == (4, 0.9)
    assert config.queries.selection == "random"


def test_any_other_gymnasium_id_gets_the_general_recipe_with_hidden_endings():
    config = resolve("CartPole-v1")
    assert config.hide_endings
    assert (config.task, config.env_id, config.horizon) == ("CartPole-v1", "CartPole-v1", 500)
    assert resolve("Pendulum-v1").queries.segment_length == 45


def test_the_baseline_differs_in_its_teacher_alone():
    assert replace(resolve("walker"), {"teacher": "none"}) == resolve("walker", teacher="none")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"algo": "pppo"}, "ppo"),
        ({"recipe": "papper"}, "paper"),
        ({"ablation": "no-ensembel"}, "no-ensemble"),
        ({"teacher": "oracl"}, "oracle"),
        ({"settings": {"reward.membres": 3}}, "reward.membres"),
        ({"settings": {"queries.labels": 0}}, "labels"),
        ({"settings": {"steps": 1000}}, "distinct pairs"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_hint(arguments, hint):
    with pytest.raises(UsageError, match=hint):
        resolve("hopper", **arguments)


def test_recipes_and_algorithms():
    assert set(RECIPES) == {"default", "paper", "pebble", "surf", "rune", "qpa"}
    off_policy = {"sac", "tqc", "crossq", "dqn", "qrdqn"}
    assert set(ALGOS) == set(IMAGES) == set(ALGORITHMS) == {"ppo", "a2c", "trpo"} | off_policy
    assert set(TASKS) <= set(ALGORITHMS)


def test_the_paper_s_atari_recipe():
    config = resolve("seaquest", algo="a2c", recipe="paper")
    agent, reward, queries = config.agent, config.reward, config.queries
    assert config.steps == 50_000_000
    assert (agent.n_envs, agent.n_steps, agent.gamma, agent.ent_coef, agent.optimiser) == (16, 5, 0.99, 0.01, "rmsprop")
    assert (agent.learning_rate, agent.learning_rate_decay) == (7e-4, True)
    assert agent.learning_rate_end == pytest.approx(30 / 80)  # towards zero at 80 M steps
    assert (queries.labels, queries.initial_labels, queries.segment_length) == (5500, 500, 25)
    assert (queries.schedule_constant, queries.schedule_bins) == (5e6, 10)
    assert (reward.network, reward.dropout, reward.target_std, reward.buffer) == ("cnn", 0.5, 0.05, 3000)
    assert reward.pretrain_comparisons == 200 * 500
    assert (config.frame_stack, config.native_engine) == (4, True)


def test_trpo_has_the_paper_s_discount_lambda_and_entropy_bonus():
    for task, bonus in (("hopper", 0.01), ("swimmer", 0.001)):
        agent = resolve(task, algo="trpo").agent
        assert (agent.gamma, agent.gae_lambda, agent.ent_coef) == (0.995, 0.97, bonus)
        assert resolve(task, algo="trpo", teacher="none").agent.ent_coef == 0
    assert resolve("hopper").agent.ent_coef == 0


def test_initial_labels_of_games_are_at_most_the_paper_s():
    assert resolve("pong", settings={"queries.labels": 2000}).queries.initial_labels == 200
    assert resolve("pong", settings={"queries.labels": 20_000, "steps": 50_000_000}).queries.initial_labels == 500
    assert resolve("pong", ablation="no-online").queries.initial_labels == 2000


@pytest.mark.parametrize(("task", "network"), [("pong", "mlp"), ("moving-dot", "mlp"), ("hopper", "cnn")])
def test_a_network_for_other_observations_is_refused(task, network):
    with pytest.raises(UsageError, match="observations"):
        resolve(task, settings={"reward.network": network})


@pytest.mark.parametrize("algo", ["ppo", "a2c", "trpo"])
def test_a_task_s_scale_does_not_depend_on_the_algorithm(algo):
    config = resolve("moving-dot", algo=algo)
    assert (config.steps, config.queries.labels) == (50_000, 100)


@pytest.mark.parametrize(
    ("task", "chosen", "every"),
    [
        ("cheetah", {}, None),
        ("cheetah", {"teacher": "human"}, 200_000),
        ("reacher", {"teacher": "human"}, 100_000),
        ("hopper", {"recipe": "paper"}, 200_000),
        ("pong", {"recipe": "paper"}, 2_000_000),
        ("pong", {"teacher": "human"}, None),
        ("moving-dot", {"teacher": "human"}, None),
    ],
)
def test_only_long_runs_are_evaluated_on_the_way(task, chosen, every):
    evaluation = resolve(task, **chosen).evaluation
    assert (evaluation.episodes, evaluation.every) == (10, every)
    assert resolve(task, **chosen, settings={"evaluation.every": 5000}).evaluation.every == 5000


@pytest.mark.parametrize("recipe", ["pebble", "surf", "rune", "qpa"])
def test_published_recipes_are_for_sac(recipe):
    config = resolve("walker", algo="sac", recipe=recipe, labels=100)
    assert (config.queries.initial_labels, config.queries.session_labels) == (10, None)
    assert (config.agent.n_envs, config.agent.n_steps, config.off_policy.updates_per_step) == (1, 1, 1)
    assert config.reward.normalise_over == "none"
    with pytest.raises(UsageError, match=f"--recipe {recipe} is for --algo sac, not ppo"):
        resolve("walker", recipe=recipe)


def test_pebble_is_as_in_b_pref():
    """The values of B-Pref's configuration files and scripts."""
    config = resolve("walker", algo="sac", recipe="pebble", labels=500)
    agent, off, reward, queries = config.agent, config.off_policy, config.reward, config.queries
    assert (agent.learning_rate, agent.batch_size, agent.net_arch, agent.gamma) == (5e-4, 1024, (1024, 1024), 0.99)
    assert (off.tau, off.target_interval, off.alpha, off.alpha_learning_rate) == (0.005, 2, 0.1, 1e-4)
    assert off.log_std_bound == "tanh"
    assert (off.log_std_min, off.random_steps, off.fresh_critic, off.fresh_updates) == (-5, 1000, True, 100)
    assert (config.exploration.steps, config.exploration.neighbours) == (10_000, 5)
    assert (reward.hidden, reward.output, reward.negative_slope, reward.members) == ((256, 256, 256), "tanh", 0.01, 3)
    assert (reward.learning_rate, reward.batch_size, reward.epochs, reward.stop_accuracy) == (3e-4, 128, 50, 0.97)
    assert (reward.error, reward.l2, reward.bootstrap, reward.normalise_inputs) == (0, 0, False, False)
    assert (queries.segment_length, queries.candidate_factor, queries.pool_episodes) == (50, 10, 100)
    assert (queries.session_steps, queries.initial_labels) == (20_000, 50)
    assert (queries.selection, queries.pool, reward.crop, reward.crop_copies) == ("variance", 2000, None, 1)
    assert (off.layer_norm, off.actor_interval, off.recent_steps, config.exploration.state_entropy) == (False, 1, 0, 0)
    assert (config.evaluation.every, config.evaluation.every_episodes, config.evaluation.episodes) == (10_000, 10, 10)


def test_b_pref_s_tasks_have_their_own_values():
    known = {name: tables.RECIPES["pebble"].tasks[name] for name in ("quadruped-walk", "button-press", "walker-run")}
    assert known["walker-run"] == {"steps": 1_000_000}
    assert known["quadruped-walk"]["queries.session_steps"] == 30_000
    assert known["quadruped-walk"]["agent.learning_rate"] == 1e-4
    assert known["button-press"]["agent.net_arch"] == [256, 256, 256]
    assert known["button-press"]["reward.epochs"] == 10
    assert 10_000 * known["button-press"]["queries.initial_fraction"] == 50
    assert tables.RECIPES["rune"].tasks["drawer-open"]["exploration.disagreement_decay"] == 1e-3
    assert tables.RECIPES["qpa"].tasks["door-open"]["off_policy.recent_steps"] == 30_000  # 60 episodes
    assert tables.RECIPES["qpa"].tasks["door-open"]["queries.pool_episodes"] == 60
    assert tables.RECIPES["qpa"].tasks["walker-run"] == {"steps": 1_000_000}


@pytest.mark.parametrize(
    ("algo", "unused", "used"),
    [
        ("ppo", "off_policy.tau", "agent.clip_range"),
        ("a2c", "agent.batch_size", "agent.vf_coef"),
        ("trpo", "agent.clip_range", "agent.target_kl"),
        ("sac", "agent.max_grad_norm", "off_policy.alpha"),
        ("tqc", "off_policy.actor_interval", "off_policy.tau"),
        ("crossq", "off_policy.tau", "off_policy.actor_interval"),
        ("dqn", "off_policy.alpha", "agent.max_grad_norm"),
        ("qrdqn", "agent.gae_lambda", "off_policy.exploration_final"),
    ],
)
def test_a_setting_without_an_effect_is_refused(algo, unused, used):
    task = "CartPole-v1" if "dqn" in algo else "reacher"
    values = {"agent.batch_size": 64, "off_policy.actor_interval": 2}
    changed = {used: values.get(used, 0.125)}
    assert resolve(task, algo=algo, settings=changed)
    with pytest.raises(UsageError, match=f"^--algo {algo} has no use for {re.escape(unused)}$"):
        resolve(task, algo=algo, settings=changed | {unused: values.get(unused, 0.125)})
