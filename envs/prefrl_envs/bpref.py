"""The tasks of B-Pref (Lee et al., 2021), and those that later work compares on. They need the extra `bpref`.

Clips have B-Pref's 50 steps. They are shown in two seconds, which is slow motion: 50 steps of the cheetah take half a
second. Instructions are in our words; B-Pref's teachers are simulated.
"""

from __future__ import annotations

from prefrl_envs.task import Task

_SEGMENT, _FPS = 50, 25

_WALKER = (
    "The walker should {gait} to the right, upright on its two legs. Prefer the clip in which it moves to the right "
    "{how} with the body held high. If it lies in both, prefer the one that comes closer to standing up."
)
_QUADRUPED = (
    "The animal should stand on its feet and {gait} forward, where its eyes look. Prefer the clip in which it moves "
    "forward {how}. If it lies on its back in both, prefer the one that comes closer to turning over."
)
_WALKER_AIM = (
    "the walker moves to the right {how} upright on its two legs, with the body held high. If it lies, coming closer "
    "to standing up is better."
)
_QUADRUPED_AIM = (
    "the animal stands on its feet and moves forward {how}, where its eyes look. If it lies on its back, coming closer "
    "to turning over is better."
)
_DOT = "the green dot marks where it should end up"


def _control(body: str, task: str, camera: str, instruction: str, aim: str) -> Task:
    """The facts of a task of the DeepMind Control Suite."""
    return Task(
        name=f"{body}-{task}",
        env_id=f"prefrl/{body.capitalize()}{task.capitalize()}-v0",
        entry_point="prefrl_envs.dmcontrol:ControlTask",
        kwargs={"domain": body, "task": task, "camera": camera},
        horizon=1000,
        segment_length=_SEGMENT,
        playback_fps=_FPS,
        instruction=instruction,
        aim=aim,
        packages=("mujoco", "dm-control"),
    )


def _manipulation(name: str, instruction: str, aim: str) -> Task:
    """The facts of a task of Meta-World."""
    return Task(
        name=name,
        env_id=f"prefrl/{name.title().replace('-', '')}-v0",
        entry_point="prefrl_envs.metaworld:make_task",
        kwargs={"task": name},
        horizon=500,
        segment_length=_SEGMENT,
        playback_fps=_FPS,
        instruction=instruction,
        aim=aim,
        packages=("mujoco", "metaworld"),
    )


BPREF = (
    _control(
        "walker",
        "walk",
        "side",
        _WALKER.format(gait="walk", how="at a walking pace or faster,"),
        _WALKER_AIM.format(how="at a walking pace or faster,"),
    ),
    _control("walker", "run", "side", _WALKER.format(gait="run", how="faster,"), _WALKER_AIM.format(how="fast,")),
    _control(
        "cheetah",
        "run",
        "side",
        "Prefer the clip in which the cheetah runs faster to the right.",
        "the cheetah runs fast to the right.",
    ),
    _control(
        "quadruped",
        "walk",
        "y",
        _QUADRUPED.format(gait="walk", how="at a walking pace or faster"),
        _QUADRUPED_AIM.format(how="at a walking pace or faster"),
    ),
    _control("quadruped", "run", "y", _QUADRUPED.format(gait="run", how="faster"), _QUADRUPED_AIM.format(how="fast")),
    _manipulation(
        "button-press",
        "The gripper should push the red button into its box. Prefer the clip in which the button ends up pushed in "
        "further. If it is not touched, prefer the gripper that gets closer to it.",
        "the gripper pushes the red button into its box. Until the button is touched, getting closer to it is better.",
    ),
    _manipulation(
        "sweep-into",
        "The gripper should sweep the small brown block into the hole, marked by the blue dot. Prefer the clip in "
        "which the block ends up closer to the hole. If it does not move, prefer the gripper that gets closer to it.",
        "the gripper sweeps the small brown block into the hole, marked by the blue dot. Until the block moves, "
        "getting closer to it is better.",
    ),
    _manipulation(
        "drawer-open",
        f"The gripper should pull the drawer open by its handle; {_DOT}. Prefer the clip in which the drawer ends up "
        "open further. If it does not move, prefer the gripper that gets closer to the handle.",
        f"the gripper pulls the drawer open by its handle; {_DOT}. Until the drawer moves, getting closer to the "
        "handle is better.",
    ),
    _manipulation(
        "window-open",
        "The gripper should slide the window open by its handle. Prefer the clip in which the window ends up open "
        "further. If it does not move, prefer the gripper that gets closer to the handle.",
        "the gripper slides the window open by its handle. Until the window moves, getting closer to the handle "
        "is better.",
    ),
    _manipulation(
        "door-open",
        f"The gripper should pull the door open by its handle; {_DOT}. Prefer the clip in which the door ends up open "
        "further. If it does not move, prefer the gripper that gets closer to the handle.",
        f"the gripper pulls the door open by its handle; {_DOT}. Until the door moves, getting closer to the "
        "handle is better.",
    ),
    _manipulation(
        "hammer",
        "The gripper should pick up the red hammer and drive the nail into the box with its head. Prefer the clip in "
        "which the nail ends up in the box further; then the one in which the hammer is lifted, with its head closer "
        "to the nail; then the one in which the gripper gets closer to the hammer's handle.",
        "the gripper picks up the red hammer and drives the nail into the box with its head. Until the nail "
        "moves, lifting the hammer, with its head closer to the nail, is better, and before that, getting closer "
        "to the hammer's handle.",
    ),
)
"""In the order of B-Pref's suites: locomotion, then manipulation."""
