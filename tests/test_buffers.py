import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import CountingEnv, through_file, tiny_reward
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from prefrl.agents.buffers import DeferredRolloutBuffer
from prefrl.agents.predicted_reward import PredictedReward
from prefrl.agents.reward_terms import AgentReward, EntropyBonus, ReturnScaler
from prefrl.experience.inputs import Inputs
from prefrl.experience.recorder import Experience, SegmentRecorder
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.normalisation import RolloutNormalisation

GAMMA, LAMBDA = 0.9, 0.8


class Watch(BaseCallback):
    """Copies what a rollout is trained on, and the values of terminal observations."""

    def __init__(self, each_step=lambda: None):
        super().__init__()
        self.rollouts, self.terminal_values, self._ends, self._each_step = [], [], [], each_step

    def _on_step(self):
        self._each_step()
        self._ends.append([info.get("terminal_observation") for info in self.locals["infos"]])
        return True

    def _on_rollout_end(self):
        self._last = {"last_values": self.locals["values"].numpy().ravel(), "dones": self.locals["dones"]}

    def completed(self):
        buffer = self.model.rollout_buffer
        names = ("rewards", "values", "advantages", "returns", "episode_starts")
        self.rollouts.append({name: getattr(buffer, name).copy() for name in names} | self._last)
        values = np.zeros(buffer.rewards.shape, np.float32)
        with torch.no_grad():
            for step, ends in enumerate(self._ends):
                for env, observation in enumerate(ends):
                    if observation is not None:
                        values[step, env] = self.model.policy.predict_values(torch.as_tensor(observation)[None]).item()
        self.terminal_values.append(values)
        self._ends = []


def run(reward, *, algorithm=PPO, rollouts=2, hide_endings=False, each_step=lambda term: None, **options):
    """Collect rollouts and train on them, as an on-policy agent does; `reward` gets the recorder."""
    envs = [CountingEnv((7, 5), tag=tag, **options) for tag in range(2)]
    recorder = SegmentRecorder(DummyVecEnv([lambda env=env: env for env in envs]), 3, 50, hide_endings=hide_endings)
    extra = {"batch_size": 12, "n_epochs": 1} if algorithm is PPO else {}
    model = algorithm(
        "MlpPolicy",
        recorder,
        n_steps=12,
        gamma=GAMMA,
        gae_lambda=LAMBDA,
        policy_kwargs={"net_arch": [8]},
        rollout_buffer_class=DeferredRolloutBuffer,
        device="cpu",
        seed=0,
        **extra,
    )
    watch, score = Watch(), reward(recorder)
    watch._each_step = lambda: each_step(score)
    model._setup_learn(rollouts * 24, watch)
    for _ in range(rollouts):
        model.collect_rollouts(recorder, watch, model.rollout_buffer, n_rollout_steps=12)
        model.rollout_buffer.complete(score(recorder.take(), model.rollout_buffer.log_probs))
        watch.completed()
        model.train()
    return watch, recorder


def numbered(_):
    return lambda experience, log_probs: np.arange(24, dtype=np.float32).reshape(12, 2)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_the_bootstrap_at_a_time_limit_stays_in_and_rewards_are_added(algorithm):
    watch, _ = run(numbered, algorithm=algorithm, truncate=True)
    for rollout, terminal in zip(watch.rollouts, watch.terminal_values, strict=True):
        assert np.count_nonzero(terminal) == 4
        np.testing.assert_allclose(
            rollout["rewards"], numbered(None)(None, None) + GAMMA * terminal, rtol=1e-5, atol=1e-5
        )


def test_there_is_no_bootstrap_at_a_true_ending():
    watch, _ = run(numbered)
    for rollout in watch.rollouts:
        np.testing.assert_array_equal(rollout["rewards"], numbered(None)(None, None))


def test_there_is_a_bootstrap_at_a_hidden_ending():
    watch, _ = run(numbered, hide_endings=True)
    for rollout, terminal in zip(watch.rollouts, watch.terminal_values, strict=True):
        assert np.count_nonzero(terminal) == 4
        np.testing.assert_allclose(
            rollout["rewards"], numbered(None)(None, None) + GAMMA * terminal, rtol=1e-5, atol=1e-5
        )


def test_advantages_and_returns_are_of_the_predicted_rewards():
    watch, _ = run(numbered, truncate=True)
    for rollout in watch.rollouts:
        advantage = np.zeros(2)
        for step in reversed(range(12)):
            last = step == 11
            going_on = 1.0 - (rollout["dones"] if last else rollout["episode_starts"][step + 1])
            following = rollout["last_values"] if last else rollout["values"][step + 1]
            delta = rollout["rewards"][step] + GAMMA * going_on * following - rollout["values"][step]
            advantage = delta + GAMMA * LAMBDA * going_on * advantage
            np.testing.assert_allclose(rollout["advantages"][step], advantage, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(rollout["returns"], rollout["advantages"] + rollout["values"], rtol=1e-6)


def test_each_rollout_is_scored_once_with_the_weights_of_that_moment():
    scores = iter([np.full((12, 2), 1.0, np.float32), np.full((12, 2), 5.0, np.float32)])
    watch, _ = run(lambda _: lambda experience, log_probs: next(scores))
    assert [set(rollout["rewards"].ravel()) for rollout in watch.rollouts] == [{1.0}, {5.0}]


class Worker:
    """A reward learner that has learned what it will."""

    def __init__(self, features=5):
        torch.manual_seed(0)
        self.ensemble = RewardEnsemble(tiny_reward(), Inputs((features,)))
        self.refreshed = 0

    def refresh(self):
        self.refreshed += 1


def test_the_true_reward_never_reaches_the_agent():
    watch, _ = run(lambda _: lambda experience, log_probs: None)
    for rollout in watch.rollouts:
        assert (rollout["rewards"] == 0).all()  # true rewards are 1 and more


def features_of(simulator):
    return np.array([[*step[0], *step[1]] for step in simulator.log], dtype=np.float32)


def test_scores_are_of_the_recorder_s_raw_arrays():
    worker, terms = Worker(), []

    def reward(recorder):
        terms.append(PredictedReward(recorder, worker))
        return terms[0]

    watch, recorder = run(reward, rollouts=1)
    logs = [env.log for env in recorder.venv.envs]
    for env, simulator in enumerate(recorder.venv.envs):
        expected = worker.ensemble.score(features_of(simulator))
        np.testing.assert_allclose(watch.rollouts[0]["rewards"][:, env], expected, rtol=1e-5)
    predicted, true = terms[0].take()
    np.testing.assert_array_equal(predicted, watch.rollouts[0]["rewards"].ravel())
    np.testing.assert_array_equal(true, np.array([[step[2] for step in log] for log in logs]).T.ravel())
    assert [part.size for part in terms[0].take()] == [0, 0]
    assert worker.refreshed == 1  # so that weights are as new as can be, however far apart the rounds are


def looked_ahead(worker, ahead, **options):
    return run(
        lambda recorder: PredictedReward(recorder, worker, ahead), each_step=lambda term: term.score_ahead(), **options
    )


@pytest.mark.parametrize("ahead", [1, 4, 7, 12])
def test_what_is_scored_ahead_is_what_would_be_scored_at_the_end(ahead):
    worker, threads = Worker(), set()
    score, predict = worker.ensemble.score, worker.ensemble.predict
    worker.ensemble.predict = lambda steps: threads.add(threading.current_thread()) or predict(steps)
    watch, recorder = looked_ahead(worker, ahead)
    for env, simulator in enumerate(recorder.venv.envs):
        rewards = np.concatenate([rollout["rewards"][:, env] for rollout in watch.rollouts])
        worker.ensemble.predict = predict
        np.testing.assert_allclose(rewards, score(features_of(simulator)), rtol=1e-5)
    assert worker.refreshed == 2  # once a rollout: all its rewards are from one version of the weights
    here = threading.current_thread()
    assert threads - {here}
    assert (here in threads) == (12 % ahead > 0)  # the rest is scored at the end


def test_errors_while_predicting_ahead_are_reported():
    worker = Worker()
    worker.ensemble.predict = lambda steps: 1 / 0
    with pytest.raises(ZeroDivisionError):
        looked_ahead(worker, 4)


@pytest.mark.parametrize("ahead", [None, 5])
def test_a_rollout_can_be_normalised_by_itself(ahead):
    worker = Worker()
    watch, recorder = run(
        lambda recorder: PredictedReward(recorder, worker, ahead, RolloutNormalisation(0.5)),
        each_step=lambda term: term.score_ahead(),
        rollouts=1,
    )
    rewards = watch.rollouts[0]["rewards"]
    assert rewards.mean() == pytest.approx(0, abs=1e-5)
    assert rewards.std() == pytest.approx(0.5, rel=1e-4)
    features = np.array([features_of(simulator) for simulator in recorder.venv.envs])
    worker.ensemble.output_normaliser._target_std = 0.5
    worker.ensemble.fit_output_normalisation(torch.from_numpy(features.reshape(-1, features.shape[-1])))
    for env, rewarded in enumerate(features):  # that of the ensemble divides by N - 1
        np.testing.assert_allclose(rewards[:, env], worker.ensemble.score(rewarded), rtol=0.05, atol=1e-3)


def test_the_agent_s_observation_normaliser_does_not_reach_the_reward_model():
    def scored(normalise):
        recorder = SegmentRecorder(DummyVecEnv([lambda: CountingEnv((7, 5))]), 3, 50)
        top = VecNormalize(recorder, norm_reward=False) if normalise else recorder
        term = PredictedReward(recorder, Worker())
        top.reset()
        rng = np.random.default_rng(0)
        for _ in range(20):
            top.step(rng.uniform(-1, 1, (1, 2)).astype(np.float32))
        return term(recorder.take(), np.zeros((20, 1), np.float32))

    np.testing.assert_array_equal(scored(normalise=False), scored(normalise=True))


def test_return_scaling_is_that_of_vec_normalize():
    class Pay(CountingEnv):
        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, reward / 10, *rest

    reference = VecNormalize(DummyVecEnv([lambda: Pay((7, 5)), lambda: Pay((4,))]), norm_obs=False, gamma=GAMMA)
    reference.reset()
    scaler = ReturnScaler(2, GAMMA)
    for _ in range(3):
        raw, dones = [], []
        for _ in range(10):
            _, _, done, _ = reference.step(np.zeros((2, 2), np.float32))
            raw.append(reference.get_original_reward())
            dones.append(done)
        scaled = scaler(np.array(raw, np.float32), np.array(dones))
        newest = reference.ret_rms.var
        expected = np.clip(np.array(raw) / np.sqrt(newest + 1e-8), -10, 10)
        np.testing.assert_allclose(scaled, expected, rtol=1e-3)
    assert scaler.state_dict()["count"] == pytest.approx(reference.ret_rms.count)


def test_return_scaling_continues_from_a_saved_state(tmp_path):
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=(6, 3)).astype(np.float32), rng.random((6, 3)) < 0.2) for _ in range(4)]
    through, resumed = ReturnScaler(3, 0.99), ReturnScaler(3, 0.99)
    for part in parts[:2]:
        through(*part)
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()))
    for part in parts[2:]:
        np.testing.assert_array_equal(through(*part), resumed(*part))


def rollout(features):
    """An experience of one environment, of these (T, 1, F) features."""
    steps = len(features)
    nothing, over = np.zeros((steps, 1), np.float32), np.zeros((steps, 1), bool)
    return Experience(features, nothing, nothing, over, over, features)


def test_an_entropy_bonus_for_an_algorithm_that_has_none():
    experience = rollout(np.random.default_rng(0).normal(size=(8, 1, 5)).astype(np.float32))
    plain, bonus = (
        AgentReward(PredictedReward(None, Worker()), terms, None) for terms in ({}, {"e": EntropyBonus(0.1)})
    )
    log_probs = np.linspace(-2, 1, 8, dtype=np.float32)[:, None]
    difference = bonus(experience, log_probs) - plain(experience, log_probs)
    np.testing.assert_allclose(difference, -0.1 * log_probs, atol=1e-6)
    np.testing.assert_allclose(plain.take_predictions()[0], bonus.take_predictions()[0])  # of the model alone


class Count:
    """A term with state: the number of rollouts so far."""

    def __init__(self):
        self.rollouts = 0

    def __call__(self, experience, log_probs):
        self.rollouts += 1
        return np.full_like(experience.rewards, self.rollouts)

    def state_dict(self):
        return {"rollouts": self.rollouts}

    def load_state_dict(self, state):
        self.rollouts = state["rollouts"]


def test_a_term_of_one_s_own_is_added_and_its_state_is_kept(tmp_path):
    experience, logs = rollout(np.ones((4, 1, 5), np.float32)), np.zeros((4, 1), np.float32)
    alone = PredictedReward(None, Worker())(experience, logs)
    reward = AgentReward(PredictedReward(None, Worker()), {"count": Count()}, None)
    reward(experience, logs)
    np.testing.assert_allclose(reward(experience, logs), alone + 2)
    resumed = AgentReward(PredictedReward(None, Worker()), {"count": Count()}, None)
    resumed.load_state_dict(through_file(tmp_path, reward.state_dict()))
    np.testing.assert_allclose(resumed(experience, logs), alone + 3)


def test_scaled_rewards_are_clipped_at_ten_deviations():
    """One reward among 400, not discounted: a deviation of 1 / 20 of it, so that it would be 20."""
    rewards = np.zeros((400, 1), np.float32)
    rewards[7] = 3.0
    scaled = ReturnScaler(1, 0.0)(rewards, np.zeros((400, 1), bool))
    assert scaled[7].item() == 10.0
    assert ReturnScaler(1, 0.0)(-rewards, np.zeros((400, 1), bool))[7].item() == -10.0
    few = ReturnScaler(1, 0.0)(rewards[:26], np.zeros((26, 1), bool))
    assert few[7].item() == pytest.approx(26 / 5, rel=1e-3)  # deviation sqrt(1/26 - 1/26^2) = 5/26 of it


def test_rewards_that_never_vary_are_scaled_without_a_division_by_nothing():
    scaled = ReturnScaler(1, 0.9)(np.zeros((40_000, 1), np.float32), np.zeros((40_000, 1), bool))
    assert (scaled == 0).all()


def test_nothing_is_scored_ahead_where_it_is_not_asked_for():
    worker = Worker()
    recorder = SimpleNamespace(rolled=9, look=lambda start: np.zeros((9, 1, 5), np.float32))
    PredictedReward(recorder, worker, ahead=None).score_ahead()
    assert worker.refreshed == 0


def test_minibatches_of_images_are_the_library_s_in_the_layout_of_the_networks():
    space, actions = spaces.Box(0, 255, (4, 6, 5), np.uint8), spaces.Discrete(3)
    chance, buffers = (
        np.random.default_rng(0),
        [kind(8, space, actions, "cpu", n_envs=2) for kind in (RolloutBuffer, DeferredRolloutBuffer)],
    )
    for _ in range(8):
        images, chosen = chance.integers(0, 256, (2, *space.shape), np.uint8), chance.integers(0, 3, 2)
        for buffer in buffers:
            buffer.add(images, chosen, np.ones(2), np.zeros(2), torch.zeros(2), torch.ones(2))
    taken = []
    for buffer in buffers:
        np.random.seed(0)  # noqa: NPY002 - what Stable-Baselines3 shuffles with
        taken.append([batch for _ in range(2) for batch in buffer.get(5)])  # two epochs
    for theirs, ours in zip(*taken, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(theirs, ours, strict=True))
        assert ours.observations.is_contiguous(memory_format=torch.channels_last)
