"""What comes before the agent trains: clips of the untrained policy, the first labels, the reward model's pretraining.

People may take hours over the first labels. So the recorded clips have a checkpoint of their own, from before the
first question until the agent's first: whatever stops the run meanwhile, it goes on with the clips that people are
asked about.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from prefrl.agents import agent_state, load_agent_state
from prefrl.control import Control, StopTraining
from prefrl.environments import EnvStack, ended_episodes
from prefrl.errors import PrefrlError
from prefrl.files import taken_from
from prefrl.loop import PreferenceLoop
from prefrl.run import RunDirectory

SAY_SECONDS = 2.0
"""Between two words where a rollout or an evaluation takes long."""


class Beginning(BaseCallback):
    """Has the first queries answered and the reward model pretrained.

    As a callback it counts episodes while the untrained policy is rolled, and nothing else.
    """

    model: OnPolicyAlgorithm

    def __init__(
        self,
        run: RunDirectory,
        env: EnvStack,
        loop: PreferenceLoop,
        control: Control,
        say: Callable[[str], None],
    ) -> None:
        """Make it.

        Args:
            run: The run.
            env: Its environments.
            loop: Asks for preferences.
            control: How the run is stopped, and whom it tells.
            say: Told what is going on.
        """
        super().__init__()
        self._run, self._env, self._loop, self._control, self._say = run, env, loop, control, say
        self._told = 0.0
        self.episodes = 0
        """That have ended so far."""
        self.seconds_before = 0.0
        """Spent on this before the run was stopped."""

    def restore(self, model: OnPolicyAlgorithm) -> None:
        """Go back to where a run stood that was stopped or killed here; a new run stays as it is."""
        self.init_callback(model)
        recorder = self._env.recorder
        assert recorder is not None
        exact, state = True, self._run.load_recording(self._control.warn)
        if state is not None:
            with taken_from(self._run.recording):
                exact = self._env.load_state_dict(state["env"])
                if not exact:
                    model._last_obs = self._env.top.reset()  # type: ignore[assignment]
                load_agent_state(model, state["agent"], simulators_restored=exact)
                self.episodes, self.seconds_before = state["episodes"], state["seconds"]
        recorder.recorded = max(recorder.recorded, self._loop.meet_store(exact=exact))

    def record(self, seconds: Callable[[], float]) -> None:
        """Roll the untrained policy until there are clips to ask about.

        Args:
            seconds: Spent so far.

        Raises:
            PrefrlError: if the episodes are too short for any.
            StopTraining: if somebody asked for it.
        """
        recorder, model, env = self._env.recorder, self.model, self._env.top
        assert recorder is not None
        saved = time.monotonic()
        if len(recorder.pool) < self._loop.initial_segments:
            self._tell()
        while len(recorder.pool) < self._loop.initial_segments and model.num_timesteps < self._run.config.steps:
            model.collect_rollouts(env, self, model.rollout_buffer, n_rollout_steps=model.n_steps)
            self._tell()
            if self._control.stop or time.monotonic() - saved > self._run.config.checkpoint_seconds:
                self._save(seconds())
                saved = time.monotonic()
            if self._control.stop:
                raise StopTraining
        if len(recorder.pool) < 2:
            length = self._run.config.queries.segment_length
            raise PrefrlError(
                f"no two clips of {length} steps could be cut from {model.num_timesteps} steps: the episodes of "
                f"{self._run.config.task} end earlier; set a shorter clip with --set queries.segment_length=N"
            )
        self._save(seconds())
        model.rollout_buffer.reset()

    def ask(self, waiting: Callable[[dict[str, int]], None]) -> None:
        """Have the first queries answered.

        Args:
            waiting: Called again and again meanwhile; may raise to stop.

        Raises:
            PrefrlError: if the teacher can compare none of the clips.
        """
        loop = self._loop
        loop.settle(self.model.num_timesteps, lambda: loop.initial_labels, waiting)
        if not loop.counts["answered"]:
            raise PrefrlError(f"the teacher {self._run.config.teacher} could compare none of the first clips")

    def pretrain(self) -> None:
        """Fit the reward model to the first labels.

        Raises:
            StopTraining: if somebody asked for it.
        """
        while not self._loop.worker.ready:
            self._say("pretraining the reward model")
            if self._control.stop:
                raise StopTraining
            self._loop.learn(self.model.num_timesteps)

    def _save(self, seconds: float) -> None:
        """Keep the recorded clips: nothing has been asked about them, and nothing been learned."""
        state = {"agent": agent_state(self.model), "env": self._env.state_dict()}
        self._run.save_recording(state | {"episodes": self.episodes, "seconds": seconds})

    def _tell(self) -> None:
        self._say("recording the untrained policy")
        self._told = time.monotonic()

    def _on_step(self) -> bool:
        self.episodes += ended_episodes(self.locals["infos"])
        if time.monotonic() - self._told > SAY_SECONDS:  # a rollout takes long where the environment is slow
            self._tell()
        return True
