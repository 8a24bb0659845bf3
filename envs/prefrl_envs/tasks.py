"""One table of task facts: what each task is called, how long a clip of it is, what a person is told.

The eight MuJoCo tasks and the seven Atari games are those of the paper (sections 3.1.1 and 3.1.2). Clip lengths are
1.5 s at the playback rates of its appendix A.1 (its 15 to 60 steps), and 25 steps for Atari; instructions are
in our words, after its appendix B. The tasks of B-Pref have a table of their own.
"""

from __future__ import annotations

from prefrl_envs.bpref import BPREF
from prefrl_envs.task import Task

_GAMES = {
    "beamrider": ("Shoot enemy ships, and never be shot.", "enemy ships are shot, and yours is not."),
    "breakout": (
        "Hit the ball, break bricks, and do not let the ball drop.",
        "the ball is hit and breaks bricks, and does not drop.",
    ),
    "enduro": ("Pass other cars, and do not be passed.", "the car passes others, and is not passed."),
    "pong": (
        "Get the ball past the left paddle; do not let it pass yours, on the right.",
        "the ball gets past the left paddle, and not past yours, on the right.",
    ),
    "qbert": (
        "Change the colour of as many tiles as possible; do not fall off, and do not run into enemies.",
        "many tiles change their colour, and the figure neither falls off nor runs into enemies.",
    ),
    "seaquest": (
        "Shoot enemies and collect divers; mind the air, and do not run into anything.",
        "enemies are shot and divers collected; the boat has air, and does not run into anything.",
    ),
    "spaceinvaders": ("Shoot aliens, and do not be shot.", "aliens are shot, and your cannon is not."),
}
"""Instruction and aim of each."""
_AVERAGE_AFTER_DEATH = (
    "Ignore score, lives and level. A clip all of which lies after a death is average; any clip in which a life is "
    "lost is bad."
)
_NO_LIVES = {"enduro": "Ignore the score and the day.", "pong": "Ignore the score."}
"""Games in which nobody dies."""
_GAME_IDS = {"beamrider": "BeamRider", "spaceinvaders": "SpaceInvaders"}


def _game(name: str, instruction: str, aim: str) -> Task:
    """The facts of an Atari game."""
    ignored = _NO_LIVES.get(name, _AVERAGE_AFTER_DEATH)
    return Task(
        name=name,
        env_id=f"prefrl/{_GAME_IDS.get(name, name.capitalize())}-v0",
        entry_point="prefrl_envs.atari:AtariGame",
        vector_entry_point="prefrl_envs.atari:AtariGames",
        kwargs={"game": name},
        horizon=None,
        segment_length=25,
        playback_fps=15,
        instruction=f"{instruction} {ignored}",
        aim=f"{aim} {ignored}",
        frame_stack=4,
    )


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="hopper",
            env_id="prefrl/Hopper-v0",
            entry_point="prefrl_envs.mujoco:hopper",
            horizon=1000,
            segment_length=60,
            playback_fps=40,
            instruction="Prefer the clip in which the centre of the body (the joint nearest the upper tip) moves "
            "further to the right. Moving left is worse than standing still. If both are alike, prefer the higher one.",
            aim="the centre of the body (the joint nearest the upper tip) moves far to the right. Moving left is "
            "worse than standing still, and high is better than low.",
        ),
        Task(
            name="walker",
            env_id="prefrl/Walker-v0",
            entry_point="prefrl_envs.mujoco:walker",
            horizon=1000,
            segment_length=45,
            playback_fps=30,
            instruction="Prefer the clip in which the joint where the legs meet moves further to the right. Moving "
            "left is worse than standing still. If both are alike, prefer the higher one.",
            aim="the joint where the legs meet moves far to the right. Moving left is worse than standing still, "
            "and high is better than low.",
        ),
        Task(
            name="swimmer",
            env_id="prefrl/Swimmer-v0",
            entry_point="prefrl_envs.mujoco:swimmer",
            horizon=1000,
            segment_length=60,
            playback_fps=40,
            instruction="Prefer the clip in which the middle of the body travels further to the right.",
            aim="the middle of the body travels far to the right.",
        ),
        Task(
            name="cheetah",
            env_id="prefrl/Cheetah-v0",
            entry_point="prefrl_envs.mujoco:cheetah",
            horizon=1000,
            segment_length=30,
            playback_fps=20,
            instruction="Prefer the clip in which the cheetah runs faster to the right.",
            aim="the cheetah runs fast to the right.",
        ),
        Task(
            name="ant",
            env_id="prefrl/Ant-v0",
            entry_point="prefrl_envs.mujoco:ant",
            horizon=1000,
            segment_length=30,
            playback_fps=20,
            instruction="First of all the ant should be upright and off the ground; if neither is, prefer the higher "
            "body. If both are, prefer the one that moves faster to the right.",
            aim="the ant is upright and off the ground, and moves fast to the right. Being upright and off the "
            "ground comes first; until it is, a higher body is better.",
        ),
        Task(
            name="reacher",
            env_id="prefrl/Reacher-v0",
            entry_point="prefrl_envs.mujoco:reacher",
            horizon=50,
            segment_length=15,
            playback_fps=10,
            instruction="Prefer the clip in which the arm's tip is nearer the target over its whole length. A steady "
            "middling distance beats near at first and far afterwards.",
            aim="the arm's tip is near the target. In a whole clip, a steady middling distance beats near at "
            "first and far afterwards.",
        ),
        Task(
            name="double-pendulum",
            env_id="prefrl/DoublePendulum-v0",
            entry_point="prefrl_envs.mujoco:double_pendulum",
            horizon=1000,
            segment_length=15,
            playback_fps=10,
            instruction="Both poles should point up, with the cart near the middle. Steady and middling beats high at "
            "first and low afterwards.",
            aim="both poles point up, with the cart near the middle. In a whole clip, steady and middling beats "
            "high at first and low afterwards.",
        ),
        Task(
            name="pendulum",
            env_id="prefrl/Pendulum-v0",
            entry_point="prefrl_envs.mujoco:pendulum",
            horizon=1000,
            segment_length=15,
            playback_fps=10,
            instruction="The pole should point straight up. A pole that is in view and up beats one out of view.",
            aim="the pole points straight up. A pole that is in view and up beats one out of view.",
        ),
        Task(
            name="hopper-backflip",
            env_id="prefrl/HopperBackflip-v0",
            entry_point="prefrl_envs.mujoco:hopper_backflip",
            horizon=300,
            segment_length=60,
            playback_fps=40,
            instruction="The hopper should do backflips, one after the other. Prefer the clip in which it turns "
            "further backward in the air; landing on its foot is better than falling. If neither turns, prefer the "
            "higher jump.",
            aim="the hopper does backflips, one after the other: it turns backward in the air. Landing on its "
            "foot is better than falling; without a turn, a higher jump is better.",
        ),
        Task(
            name="cheetah-one-leg",
            env_id="prefrl/CheetahOneLeg-v0",
            entry_point="prefrl_envs.mujoco:cheetah_one_leg",
            horizon=1000,
            segment_length=30,
            playback_fps=20,
            instruction="The cheetah should move forward on one leg. Prefer the clip in which the front foot stays off "
            "the ground for longer; if both are alike, the one that moves further to the right.",
            aim="the cheetah moves forward on one leg: the front foot stays off the ground, and it moves far to "
            "the right.",
        ),
        *(_game(name, *said) for name, said in _GAMES.items()),
        Task(
            name="enduro-effort",
            env_id="prefrl/EnduroEffort-v0",
            entry_point="prefrl_envs.enduro:EnduroEffort",
            horizon=None,
            segment_length=25,
            playback_fps=15,
            instruction="Pass other cars, and do not be passed. If neither happens, prefer the clip in which the car "
            "drives faster and gains on the cars ahead. Ignore the score and the day.",
            aim="the car passes others and is not passed, or at least drives fast and gains on the cars ahead. "
            "Ignore the score and the day.",
            frame_stack=4,
        ),
        Task(
            name="enduro-even",
            env_id="prefrl/EnduroEven-v0",
            entry_point="prefrl_envs.enduro:EnduroEven",
            horizon=None,
            segment_length=25,
            playback_fps=15,
            instruction="Drive level with the other cars. Prefer the clip in which the car keeps up with the traffic "
            "and neither passes others nor is passed; standing still is bad.",
            aim="the car drives level with the others: it keeps up with the traffic, and neither passes others "
            "nor is passed. Standing still is bad.",
            frame_stack=4,
        ),
        Task(
            name="moving-dot",
            env_id="prefrl/MovingDot-v0",
            entry_point="prefrl_envs.moving_dot:MovingDot",
            horizon=60,
            segment_length=15,
            playback_fps=15,
            instruction="The dot should get to the middle of the screen, and stay there. Prefer the clip in which it "
            "is nearer to the middle over its whole length.",
            aim="the dot is near the middle of the screen. In a whole clip, it should get there and stay there.",
            frame_stack=4,
        ),
        *BPREF,
    )
}
