"""The renderer: a worker process that renders the segments that people will compare.

It replays each segment from its scene in a separate environment. Rendering therefore does not slow down the agent, and
only queried segments are rendered.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.arrays import Array
from prefrl.errors import PrefrlError, explain
from prefrl.experience.action_spaces import from_numbers
from prefrl.experience.clips import ClipFolder
from prefrl.experience.env_errors import EnvError
from prefrl.experience.frames import make_render_env, prepare, render
from prefrl.experience.scenes import scene_frames
from prefrl.experience.snapshots import load_env
from prefrl.experience.user_envs import restore_user_env, user_env_maker
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.run_store import run_store
from prefrl.feedback.waiting import wait_on
from prefrl.machine.processes import check_guarded, how_it_ended, start_worker
from prefrl.printable import complain
from prefrl.rendering.clip_video import read_clip_video, write_clip_video
from prefrl.runs.directory import RunDirectory
from prefrl.safety.trust import Passport, accept, passport
from prefrl.storage.durable import sync

_IDLE_SECONDS = 0.2
_RESTART_SECONDS = 5.0
"""Minimum time between two starts of a renderer that keeps dying."""
_NICE = 19
_CANNOT_RENDER = 3
"""Exit status if the task cannot be rendered on this machine; restarting does not help."""
_NOTHING_SHOWN = 4
"""Exit status if `_HOPELESS` clips in a row could not be rendered."""
_HOPELESS = 10
"""Number of failed clips in a row after which the renderer gives up."""


class CannotRenderError(PrefrlError):
    """The task cannot be rendered on this machine."""


class NothingShownError(PrefrlError):
    """Many clips in a row could not be rendered."""


class SegmentRenderer:
    """Renders segments by replaying them in an environment."""

    def __init__(self, env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> None:
        """Create the environment.

        Args:
            env_id: The environment's Gymnasium id.
            env_kwargs: Arguments of its constructor.

        Raises:
            UsageError: if this machine cannot render it.
        """
        self._env = make_render_env(env_id, env_kwargs)
        self._env.reset(seed=0)
        prepare(self._env)

    def render(self, scene: dict[str, Any], actions: Array) -> Array:
        """Render a segment.

        Args:
            scene: The segment's scene.
            actions: (L, *action).

        Returns:
            (L, H, W, 3) frames. For a simulator state, each frame follows its action, because an emulator cannot
            render a restored state. Frames that were rendered during training precede their action.
        """
        if (frames := scene_frames(scene)) is not None:
            return np.stack(frames)
        self._env.reset()
        load_env(self._env, scene["state"])
        for action in scene.get("lead", ()):  # the state belongs to an earlier step
            self._env.step(from_numbers(self._env.action_space, action))
        shown = []
        for action in actions:
            self._env.step(from_numbers(self._env.action_space, action))
            shown.append(render(self._env))
        return np.stack(shown)

    def render_one(self) -> None:
        """Render one frame, as a test.

        Raises:
            UsageError: if this machine cannot render.
        """
        render(self._env)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class RendererProcess:
    """Starts the renderer's process, monitors it, and restarts it if it dies."""

    def __init__(self, run: RunDirectory) -> None:
        """Start the process."""
        self._run = run
        self._start()

    def _start(self) -> None:
        config = self._run.config
        given = passport(config), user_env_maker(config.env_id)
        self._worker = start_worker("prefrl-renderer", _render, self._run.root, *given)
        self._started = time.monotonic()

    def check(self) -> str | None:
        """Restart the process if it died.

        Returns:
            A warning if it died, otherwise None.

        Raises:
            PrefrlError: if this machine cannot render the task, so that nothing can be labelled.
            EnvError: if many clips in a row could not be rendered.
        """
        process = self._worker.process
        check_guarded(process.exitcode)
        if process.exitcode == _CANNOT_RENDER:
            raise PrefrlError(f"nothing of {self._run.config.task} can be shown on this machine; see `prefrl doctor`")
        if process.exitcode == _NOTHING_SHOWN:
            raise EnvError(
                f"none of the last {_HOPELESS} clips of {self._run.config.task} could be shown to people: "
                f"{_newest_problem(self._run)}"
            )
        if process.is_alive() or time.monotonic() - self._started < _RESTART_SECONDS:
            return None
        ended = how_it_ended(process.exitcode)
        self._worker.discard()
        self._start()
        return f"the renderer died ({ended}) and was started again"

    def close(self) -> None:
        """Let the process finish its clip, then stop it."""
        self._worker.stop(timeout=10)


def _newest_problem(run: RunDirectory) -> str:
    with run_store(run) as store:
        return LabelQueue(store).problems()[0]


def _render(stop: Connection, root: Path, given: Passport, maker: Any = None) -> None:
    if hasattr(os, "nice"):  # not on Windows
        os.nice(_NICE)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        accept(given)
        run = RunDirectory.open(root).admit()
        restore_user_env(run.config, maker)
        with run.lock("renderer", timeout=30):
            _render_until(stop, run)
    except NothingShownError:
        sys.exit(_NOTHING_SHOWN)  # the agent's process reports the reason
    except Exception as error:
        complain(f"renderer: {explain(error)}")
        sys.exit(_CANNOT_RENDER if isinstance(error, CannotRenderError) else 1)


def _render_until(stop: Connection, run: RunDirectory) -> None:
    with run_store(run, waiting=wait_on(run.labels)) as store:
        _render_for(LabelQueue(store), stop, run)


def _render_for(queue: LabelQueue, stop: Connection, run: RunDirectory) -> None:
    """Render the segments of queries for people, until told to stop.

    Raises:
        NothingShownError: if many clips in a row cannot be rendered, so that people would wait forever.
    """
    clips, segment_renderer = ClipFolder(run.clips), make_segment_renderer(run.config.env_id, run.config.env_kwargs)
    failed = 0
    while not stop.poll():
        for segment in queue.to_render():
            try:
                render_clip(segment, clips, segment_renderer, run.config.playback_fps, queue)
                failed = 0
            except OSError:
                raise  # e.g. a full disk; the clip is not the cause
            except Exception as error:  # any error of a user's environment
                queue.unrenderable(segment, explain(error))
                failed += 1
                if failed == 1:
                    complain(f"renderer: clip {segment} cannot be shown, and is not asked about: {explain(error)}")
                if failed == _HOPELESS:
                    raise NothingShownError from None
            if stop.poll():
                break
        else:
            stop.poll(_IDLE_SECONDS)


def make_segment_renderer(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> SegmentRenderer:
    """Create a segment renderer and test it with one frame.

    Raises:
        CannotRenderError: if the machine or the environment cannot render.
    """
    try:
        segment_renderer = SegmentRenderer(env_id, env_kwargs)
        segment_renderer.render_one()
    except Exception as error:  # any error of a user's environment
        raise CannotRenderError(explain(error)) from error
    return segment_renderer


def render_clip(
    segment: int, clips: ClipFolder, segment_renderer: SegmentRenderer, fps: int, queue: LabelQueue
) -> None:
    """Render a segment, write its video, and mark the segment as rendered.

    Args:
        segment: Id of the segment.
        clips: The run's clips.
        segment_renderer: Renders the frames.
        fps: Frames per second of the video.
        queue: Receives the result.

    Raises:
        PrefrlError: if it cannot be rendered.
    """
    queue.rendered(segment, render_video(segment, clips, segment_renderer, fps))


def render_video(segment: int, clips: ClipFolder, segment_renderer: SegmentRenderer, fps: int) -> int:
    """Render a segment, write its video, and verify it; arguments and errors as for `render_clip`.

    Returns:
        The number of frames.
    """
    scene, actions = clips.load_scene(segment)
    frames = segment_renderer.render(scene, actions)
    if len(frames) != len(actions):
        raise PrefrlError(f"{len(frames)} frames for {len(actions)} steps")
    write_clip_video(clips.video(segment), frames, fps)
    read_clip_video(clips.video(segment), len(actions))
    sync([clips.video(segment)])
    return len(actions)
