"""The one seam in the agent's training: a callback that runs a round every few thousand steps.

A round asks, learns, writes metrics and, now and then, a checkpoint. Rounds lie between two rollouts, where the
algorithm's whole state is its networks, its optimiser and a few counters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from prefrl.agents import agent_state, load_agent_state
from prefrl.beginning import SAY_SECONDS, Beginning
from prefrl.control import Control, StopTraining
from prefrl.durable import sync
from prefrl.environments import EnvStack, ended_episodes
from prefrl.errors import explain, is_disk_full
from prefrl.evaluation import Evaluation, evaluate, evaluation_seed
from prefrl.files import Tree, taken_from
from prefrl.loop import PreferenceLoop
from prefrl.metrics import MetricsFile, Row, correlation
from prefrl.run import RunDirectory
from prefrl.scoring import RolloutScorer
from prefrl.symptoms import Symptom, symptoms
from prefrl.types import Array

if TYPE_CHECKING:
    from prefrl.renderer import RendererProcess

_CHECK_SECONDS = 1.0


class RoundsCallback(BaseCallback):
    """Runs the rounds of one training."""

    model: OnPolicyAlgorithm

    def __init__(
        self,
        run: RunDirectory,
        env: EnvStack,
        control: Control,
        loop: PreferenceLoop | None,
        scorer: RolloutScorer | None,
        renderer: RendererProcess | None = None,
    ) -> None:
        """Make the callback; without loop and scorer it trains on the true reward.

        Args:
            run: The run.
            env: Its environments.
            control: How it is stopped, and whom it tells.
            loop: Asks for preferences.
            scorer: Gives the agent its reward.
            renderer: Films clips for people.
        """
        super().__init__()
        self._run, self._env, self._control, self._loop, self._scorer = run, env, control, loop, scorer
        self._renderer = renderer
        self.config = run.config
        self.last_row: Row = {}
        self._episodes = self._next_round = 0
        self._initial_done = self._evaluation_due = False
        self._evaluation: float | None = None
        self._seconds_before = self._next_check = self._said = 0.0
        self._told: set[str] = set()

    # -- Stable-Baselines3's hooks ------------------------------------------------------------------------------------

    def _on_training_start(self) -> None:
        self._started = self._checkpointed = time.monotonic()
        state = self._run.load_checkpoint(self._control.warn)
        if state is not None:
            with taken_from(self._run.checkpoints):
                self._restore(state)
        self._metrics = MetricsFile(self._run.metrics, upto=self.model.num_timesteps)
        if state is None:
            if self._loop:
                self._begin(self._loop)
            self._next_round = self.model.num_timesteps + self.config.round_steps
            self._checkpoint()
        if self._evaluation_due:
            self.evaluate(self.config.evaluation.every_episodes)

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps >= self._next_round:
            self._round()

    def _on_step(self) -> bool:
        self._episodes += ended_episodes(self.locals["infos"])
        if self._scorer:
            self._scorer.look_ahead()
        self.keep_saying("training")
        if self._loop and time.monotonic() > self._next_check:
            self._check(self._loop)  # a round may be minutes away where the environment is slow
        return True

    def _check(self, loop: PreferenceLoop) -> None:
        """See to the processes beside the agent, now and then."""
        self._next_check = time.monotonic() + _CHECK_SECONDS
        loop.worker.check()
        if self._renderer and (happened := self._renderer.check()):
            self._control.warn(happened)

    def _on_training_end(self) -> None:
        finished_before = self.last_row.get("step") == self.model.num_timesteps
        if not (finished_before and self.counts["answered"] >= self._budget):
            self._round(last=True)

    # -- rounds -------------------------------------------------------------------------------------------------------

    def _begin(self, loop: PreferenceLoop) -> None:
        """Before training: have the first queries answered, pretrain the reward model."""
        assert self._scorer is not None
        beginning = Beginning(self._run, self._env, loop, self._control, self._say)
        beginning.restore(self.model)
        self._seconds_before = beginning.seconds_before
        if loop.initial_segments:
            beginning.record(lambda: self.seconds)
            beginning.ask(self._waiting)
        self._episodes = beginning.episodes
        self._initial_done = True
        beginning.pretrain()
        self._scorer.start()

    def _round(self, *, last: bool = False) -> None:
        step = self.model.num_timesteps
        loop = self._loop
        if loop:
            if self.config.mode == "sync" or last:
                loop.settle(step, lambda: loop.due(step), self._waiting)
            else:
                loop.ask(step, loop.due(step))
                if self.config.asks_people:
                    loop.wait_for_people(step, self._waiting)
            loop.learn(step)
        counts = self.counts
        if last and loop and not loop.closed and counts["answered"] < self._budget:
            self._control.warn(
                f"only {counts['answered']} of {self._budget} labels could be asked for: "
                "there were no more pairs of clips to compare"
            )
        self._evaluation_due = not last and self._is_evaluated_at(step)
        self._write_metrics(step, counts)
        self._tell_symptoms()
        self._next_round = step + self.config.round_steps
        self._say("training", counts)
        if last or self._control.stop or time.monotonic() - self._checkpointed > self.config.checkpoint_seconds:
            self._checkpoint()
        if self._control.stop and not last:
            raise StopTraining
        if self._evaluation_due:
            self.evaluate(self.config.evaluation.every_episodes)

    def _waiting(self, counts: dict[str, int]) -> None:
        if time.monotonic() < self._next_check and not self._control.stop:
            return
        if self._loop:
            self._check(self._loop)
        plural = "" if counts["pending"] == 1 else "s"
        self._say(f"waiting for {counts['pending']} label{plural} from {self.config.teacher}", counts)
        if self._control.stop:
            raise StopTraining

    # -- what others see ----------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Time spent training, in all sessions."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def _budget(self) -> int:
        return self.config.queries.labels if self._loop else 0

    @property
    def unusable_labels(self) -> int:
        """Labels that could not be learned from; 0 on the true reward."""
        return self._loop.unusable if self._loop else 0

    @property
    def counts(self) -> dict[str, int]:
        """Labels by judgement; all zero on the true reward."""
        return self._loop.counts if self._loop else dict.fromkeys(("answered", "pending", "equal", "incomparable"), 0)

    @property
    def symptoms(self) -> list[Symptom]:
        """What is wrong with the run as far as its figures tell."""
        return symptoms(self.config, self._metrics.rows, self.counts)

    def _tell_symptoms(self) -> None:
        """Warn of each kind of symptom once."""
        for symptom in self.symptoms:
            if symptom.kind not in self._told:
                self._control.warn(f"warning: {symptom.line}")
                self._told.add(symptom.kind)

    def _write_metrics(self, step: int, counts: dict[str, int]) -> None:
        returns = np.array([info["r"] for info in self.model.ep_info_buffer or ()], dtype=np.float64)
        row: Row = {"step": step, "episodes": self._episodes}
        if len(returns) and self.config.true_reward:
            row |= {"true_return_mean": float(returns.mean()), "true_return_std": float(returns.std())}
        if self._loop and self._scorer:
            row |= {"labels": counts["answered"], "pending": counts["pending"]}
            fit = self._loop.worker.metrics
            row |= {"reward_version" if name == "version" else name: value for name, value in fit.items()}
            predicted, true = self._scorer.take()
            if predicted.size:
                row |= {
                    "predicted_reward_mean": float(predicted.mean()),
                    "predicted_reward_std": float(predicted.std()),
                    "reward_correlation": correlation(predicted, true),
                }
        row |= {"time_seconds": self.seconds, "time_steps_per_second": step / max(self.seconds, 1e-9)}
        # A finished run that was given more labels has its last row already.
        self._write_row(self.last_row | row if self.last_row.get("step") == step else row)

    def _write_row(self, row: Row) -> None:
        """Write a row, in place of the last one where it is of the same step; the log gets what is new in it."""
        before, step = self.last_row, self.model.num_timesteps
        if before.get("step") == step:
            self._metrics = MetricsFile(self._run.metrics, upto=step - 1)
        else:
            before = {}
        self._metrics.append(row)
        self.last_row = row
        for name, value in row.items():
            if value is not None and name != "step" and before.get(name) != value:
                self.logger.record(f"prefrl/{name}", value)
        self.logger.dump(step)

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(self, episodes: int) -> None:
        """Evaluate the policy as it is, and add what comes of it to the last row.

        A task that cannot be evaluated is said, and does not stop the run. One that is stopped meanwhile evaluates anew
        when it is resumed.

        Raises:
            StopTraining: if somebody asked for it.
        """
        try:
            seed, tell = evaluation_seed(self.config), self._telling(episodes)
            found = evaluate(self.config, self._act, episodes=episodes, seed=seed, tell=tell)
        except StopTraining:
            if self._evaluation_due:
                self._checkpoint()
            raise
        except Exception as error:
            if is_disk_full(error):
                raise
            self._control.warn(f"the policy could not be evaluated: {explain(error)}")
            found = None
        self._evaluation_due = False
        if found and math.isfinite(found.mean):
            self._note_evaluation(found)
        self._say("training")

    def _note_evaluation(self, found: Evaluation) -> None:
        count = len(found.episodes)
        if found.cut:
            self._control.warn(f"{found.cut} of {count} episodes of the evaluation did not end by themselves: cut")
        self._evaluation = found.mean
        figures: Row = {"evaluation_return_mean": found.mean, "evaluation_return_std": found.std}
        self._write_row(self.last_row | figures | {"evaluation_episodes": count})

    def _is_evaluated_at(self, step: int) -> bool:
        """Whether a multiple of `evaluation.every` lies between the last round and this step."""
        every = self.config.evaluation.every
        if every is None or not self.config.true_reward:
            return False
        return int(self.last_row.get("step") or 0) // every < step // every

    def _act(self, observations: Array) -> Array:
        """The mean action, with the statistics of observations as they stand."""
        normaliser = self._env.normaliser
        seen = normaliser.normalize_obs(observations) if normaliser else observations
        return self.model.predict(seen, deterministic=True)[0]

    def _telling(self, episodes: int) -> Callable[[int], None]:
        """Tells how far an evaluation is, when an episode has ended and every few seconds; raises to stop it."""
        said, at = -1, 0.0

        def tell(ended: int) -> None:
            nonlocal said, at
            if self._control.stop:
                raise StopTraining
            if ended > said or time.monotonic() - at > SAY_SECONDS:
                said, at = ended, time.monotonic()
                self._say(f"evaluating the policy, {ended} of {episodes} episodes")

        return tell

    # -- what others see ----------------------------------------------------------------------------------------------

    def _say(self, state: str, counts: dict[str, int] | None = None) -> None:
        """Tell the run directory and the screen where the training is."""
        row, config = self.last_row, self.config
        counts = counts or self.counts
        progress = {
            "state": state,
            "step": self.model.num_timesteps,
            "steps": config.steps,
            "initial_labels_done": self._initial_done,
            "labels": counts["answered"],
            "labels_pending": counts["pending"],
            "labels_budget": self._budget,
            "true_return": row.get("true_return_mean"),
            "evaluation_return": self._evaluation,
            "reward_correlation": row.get("reward_correlation"),
            "seconds": self.seconds,
            "updated_at": time.time(),
        }
        self._run.write_progress(progress)
        self._control.report(progress)
        self._said = time.monotonic()

    def keep_saying(self, state: str) -> None:
        """Tell it again where a rollout takes long, so that nobody is left without a word."""
        if time.monotonic() - self._said > SAY_SECONDS:
            self._say(state)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        tree: Tree = {
            "agent": agent_state(self.model),
            "env": self._env.state_dict(),
            "loop": self._loop.state_dict() if self._loop else {},
            **(self._scorer.state_dict() if self._scorer else {}),
            "round": {
                "next": self._next_round,
                "episodes": self._episodes,
                "seconds": self.seconds,
                "evaluation_due": self._evaluation_due,
                "evaluation": self._evaluation,
            },
            "row": self.last_row,
        }
        sync([self._run.metrics])  # its rows up to here are not written again
        self._run.save_checkpoint(self.model.num_timesteps, tree)
        self._checkpointed = time.monotonic()

    def _restore(self, state: Tree) -> None:
        exact = self._env.load_state_dict(state["env"])
        if not exact:
            self.model._last_obs = self._env.top.reset()  # type: ignore[assignment]
        load_agent_state(self.model, state["agent"], simulators_restored=exact)
        self._next_round, self.last_row = state["round"]["next"], state["row"]
        self._episodes, self._seconds_before = state["round"]["episodes"], state["round"]["seconds"]
        self._evaluation_due = bool(state["round"].get("evaluation_due"))
        self._evaluation = state["round"].get("evaluation")
        if self._loop and self._scorer and self._env.recorder:
            first_free = self._loop.load_state_dict(state["loop"], exact=exact)
            self._env.recorder.recorded = max(self._env.recorder.recorded, first_free)
            self._scorer.load_state_dict(state)
            self._scorer.start()
            self._initial_done = True
