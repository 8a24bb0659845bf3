"""One table of task facts: what each task is called, how long a clip of it is, what a person is told.

The eight MuJoCo tasks are those of the paper (section 3.1.1). Clip lengths are 1.5 s at the playback rates of its
appendix A.1, which gives its 15 to 60 steps; instructions are in our words, after its appendix B. Nothing here knows of
training: recipes belong to the trainer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Facts of one task."""

    name: str
    """What a person types."""
    env_id: str
    """The Gymnasium id."""
    horizon: int
    """Steps in an episode; no episode ends earlier."""
    segment_length: int
    """Steps in a clip (L)."""
    playback_fps: int
    """Steps shown per second when a clip is played; a playback rate, not the simulator's 1/dt."""
    instruction: str
    """What a labeller is told."""


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="hopper",
            env_id="prefrl/Hopper-v0",
            horizon=1000,
            segment_length=60,
            playback_fps=40,
            instruction="Prefer the clip in which the centre of the body (the joint nearest the upper tip) moves "
            "further to the right. Moving left is worse than standing still. If both are alike, prefer the higher one.",
        ),
        Task(
            name="walker",
            env_id="prefrl/Walker-v0",
            horizon=1000,
            segment_length=45,
            playback_fps=30,
            instruction="Prefer the clip in which the joint where the legs meet moves further to the right. Moving "
            "left is worse than standing still. If both are alike, prefer the higher one.",
        ),
        Task(
            name="swimmer",
            env_id="prefrl/Swimmer-v0",
            horizon=1000,
            segment_length=60,
            playback_fps=40,
            instruction="Prefer the clip in which the middle of the body travels further to the right.",
        ),
        Task(
            name="cheetah",
            env_id="prefrl/Cheetah-v0",
            horizon=1000,
            segment_length=30,
            playback_fps=20,
            instruction="Prefer the clip in which the cheetah runs faster to the right.",
        ),
        Task(
            name="ant",
            env_id="prefrl/Ant-v0",
            horizon=1000,
            segment_length=30,
            playback_fps=20,
            instruction="First of all the ant should be upright and off the ground; if neither is, prefer the higher "
            "body. If both are, prefer the one that moves faster to the right.",
        ),
        Task(
            name="reacher",
            env_id="prefrl/Reacher-v0",
            horizon=50,
            segment_length=15,
            playback_fps=10,
            instruction="Prefer the clip in which the arm's tip is nearer the target over its whole length. A steady "
            "middling distance beats near at first and far afterwards.",
        ),
        Task(
            name="double-pendulum",
            env_id="prefrl/DoublePendulum-v0",
            horizon=1000,
            segment_length=15,
            playback_fps=10,
            instruction="Both poles should point up, with the cart near the middle. Steady and middling beats high at "
            "first and low afterwards.",
        ),
        Task(
            name="pendulum",
            env_id="prefrl/Pendulum-v0",
            horizon=1000,
            segment_length=15,
            playback_fps=10,
            instruction="The pole should point straight up. A pole that is in view and up beats one out of view.",
        ),
    )
}
