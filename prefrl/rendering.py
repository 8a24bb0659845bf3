"""Frames of environments, cheap enough to render in software."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from prefrl.errors import UsageError
from prefrl.types import Array


def prepare(env: gymnasium.Env[Any, Any]) -> None:
    """Make the camera follow, and the scene cheap: MuJoCo's shadows and reflections are slow in software.

    To be called before the first frame; environments that are not MuJoCo's are left as they are.

    Args:
        env: Made with `render_mode="rgb_array"`.

    Raises:
        UsageError: if this machine cannot render.
    """
    base: Any = env.unwrapped
    if not hasattr(base, "mujoco_renderer"):
        return
    import mujoco  # noqa: PLC0415 - not every user's tasks need it

    # Gymnasium's own choice is a camera that stands still, out of whose sight a runner runs.
    track = mujoco.mj_name2id(base.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if track >= 0:
        base.mujoco_renderer.camera_id = track
    base.model.vis.quality.offsamples = 0
    try:
        viewer = base.mujoco_renderer._get_viewer("rgb_array")
    except Exception as error:
        raise UsageError(f"this machine cannot render ({error}); `prefrl doctor` tells what it lacks") from None
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
        viewer.scn.flags[flag] = 0


def render(env: gymnasium.Env[Any, Any]) -> Array:
    """One frame (H, W, 3) uint8.

    Raises:
        UsageError: if this machine, or the environment, cannot render.
    """
    try:
        return np.asarray(env.render())
    except Exception as error:
        raise UsageError(f"this machine cannot render ({error}); `prefrl doctor` tells what it lacks") from None
