"""Render frames of environments, with settings that are fast in software."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from prefrl.arrays import Array
from prefrl.errors import UsageError
from prefrl.experience.adapter import Adapter
from prefrl.experience.env_errors import EnvError
from prefrl.experience.make_env import RENDERED, make_env

SIZE = 320
"""Width and height of MuJoCo frames in pixels; rendering in software takes 6 ms per frame."""
_NARROW = (10.0, 500.0)
"""Floors that an agent could run over, by the metres from their middle to their edge; what is smaller is a board or a
table."""
_WIDER = 50


def make_render_env(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> Adapter:
    """Create an environment that renders the frames shown to people.

    Raises:
        UsageError: if it cannot be created on this machine.
    """
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        return make_env(env_id, env_kwargs, rewarded=False, render_mode=RENDERED, width=SIZE, height=SIZE)
    except UsageError:  # the size of its frames cannot be chosen
        return make_env(env_id, env_kwargs, rewarded=False, render_mode=RENDERED)


def prepare(env: gymnasium.Env[Any, Any]) -> None:
    """Select a tracking camera, widen floors, and disable MuJoCo's shadows and reflections, which are slow in software.

    Call this before the first frame. It has no effect on environments without MuJoCo.

    Args:
        env: Made with `render_mode="rgb_array"`.

    Raises:
        UsageError: if this machine cannot render.
    """
    base: Any = env.unwrapped
    if not hasattr(base, "mujoco_renderer"):
        return
    import mujoco  # noqa: PLC0415 - not every task needs it

    # Gymnasium's default camera is fixed, so that a running robot leaves its view.
    track = mujoco.mj_name2id(base.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if track >= 0:
        base.mujoco_renderer.camera_id = track
    widen_floors(base.model)
    base.model.vis.quality.offsamples = 0
    try:
        viewer = base.mujoco_renderer._get_viewer("rgb_array")
    except Exception as error:
        raise UsageError(f"this machine cannot render ({error}); `prefrl doctor` lists what is missing") from None
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
        viewer.scn.flags[flag] = 0


def widen_floors(model: Any) -> None:
    """Draw a MuJoCo model's floors wider, with tiles of the same size. Doing so again changes nothing.

    A fast agent runs over the edge of what is drawn, where people cannot see how fast it moves. Physics does not
    change: a plane has no edge there.
    """
    import mujoco  # noqa: PLC0415 - not every task needs it

    for plane in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
        half = model.geom_size[plane, :2]
        wider = np.where((half >= _NARROW[0]) & (half < _NARROW[1]), _WIDER, 1)
        model.geom_size[plane, :2] *= wider
        material = model.geom_matid[plane]
        if material >= 0 and not model.mat_texuniform[material]:
            model.mat_texrepeat[material] *= wider


def render(env: gymnasium.Env[Any, Any]) -> Array:
    """Render one frame.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UsageError: if the machine or the environment cannot render.
    """
    try:
        return picture(env.render())
    except ValueError as error:
        raise UsageError(f"the environment's render() does not return an image: {error}") from None
    except EnvError as error:
        raise UsageError(f"this machine cannot render ({error}); `prefrl doctor` lists what is missing") from None
    except Exception as error:
        raise UsageError(f"this machine cannot render ({error}); `prefrl doctor` lists what is missing") from None


def picture(frame: Any) -> Array:
    """Convert the result of an environment's `render` to an RGB image.

    Args:
        frame: (H, W) or (H, W, 1) greyscale, (H, W, 3) RGB, or (H, W, 4) RGBA, whose alpha channel is dropped; also
            with channels first. Integers in [0, 255], or floats or booleans in [0, 1].

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: if it is not an image.
    """
    if frame is None:
        raise ValueError("it returns None")
    array = np.asarray(frame)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"it returns a {type(frame).__name__}")
    if array.ndim == 3 and array.shape[2] not in {1, 3, 4} and array.shape[0] in {1, 3, 4}:
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in {1, 3, 4} or 0 in array.shape:
        raise ValueError(f"it returns an array of shape {array.shape}")
    colours = array[:, :, :3] if array.shape[2] > 1 else np.repeat(array, 3, axis=2)
    if colours.dtype == np.uint8:
        return np.ascontiguousarray(colours)
    if colours.dtype.kind == "b" or (colours.dtype.kind == "f" and np.nanmax(colours, initial=0) <= 1):
        colours = colours.astype(np.float32) * 255
    bright: Array = np.clip(np.rint(np.nan_to_num(colours)), 0, 255).astype(np.uint8)
    return bright
