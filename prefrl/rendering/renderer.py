"""The renderer: a process beside the agent that films, for people, the segments that they will be asked about.

It replays each from the simulator's state at its first step, in an environment of its own, so that no frame is rendered
in the agent's path and none that nobody will see.
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
from prefrl.experience.frames import prepare, render, make_render_env
from prefrl.experience.scenes import scene_frames
from prefrl.experience.snapshots import load_env
from prefrl.experience.user_envs import user_env_maker, restore_user_env
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
"""Between two starts at least, for a renderer that dies again and again."""
_NICE = 19
_CANNOT_RENDER = 3
"""Exit status of a renderer that can show nothing of its task, however often it is started."""
_NOTHING_SHOWN = 4
"""Exit status of a renderer that could show none of many clips, one after the other."""
_HOPELESS = 10
"""So many clips."""


class CannotRenderError(PrefrlError):
    """Nothing of the task can be rendered here."""


class NothingShownError(PrefrlError):
    """One clip after the other could not be shown."""


class SegmentRenderer:
    """An environment to replay segments in."""

    def __init__(self, env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> None:
        """Set it up.

        Args:
            env_id: The environment's Gymnasium id.
            env_kwargs: Its constructor's arguments.

        Raises:
            UsageError: if this machine cannot render it.
        """
        self._env = make_render_env(env_id, env_kwargs)
        self._env.reset(seed=0)
        prepare(self._env)

    def render(self, scene: dict[str, Any], actions: Array) -> Array:
        """A segment's frames (L, H, W, 3), one after each of its (L, *action) actions.

        After, since an emulator has no picture of a state that it was put into; of what was filmed, one before each.
        """
        if (frames := scene_frames(scene)) is not None:
            return np.stack(frames)
        self._env.reset()
        load_env(self._env, scene["state"])
        for action in scene.get("lead", ()):  # the state is that of an earlier step
            self._env.step(from_numbers(self._env.action_space, action))
        shown = []
        for action in actions:
            self._env.step(from_numbers(self._env.action_space, action))
            shown.append(render(self._env))
        return np.stack(shown)

    def render_one(self) -> None:
        """Render one frame.

        Raises:
            UsageError: if this machine cannot.
        """
        render(self._env)

    def close(self) -> None:
        """Let go of the environment."""
        self._env.close()


class RendererProcess:
    """The process, as the agent's side sees it: started, watched, and started again where it died."""

    def __init__(self, run: RunDirectory) -> None:
        """Start it."""
        self._run = run
        self._start()

    def _start(self) -> None:
        config = self._run.config
        given = passport(config), user_env_maker(config.env_id)
        self._beside = start_worker("prefrl-renderer", _render, self._run.root, *given)
        self._started = time.monotonic()

    def check(self) -> str | None:
        """Start it again if it died; what happened, in words, or None.

        Raises:
            PrefrlError: if this machine cannot show the task at all, so that nothing could ever be labelled.
            EnvError: if one clip after the other could not be shown.
        """
        process = self._beside.process
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
        self._start()
        return f"the renderer died ({ended}) and was started again"

    def close(self) -> None:
        """Let it finish its clip, and end."""
        self._beside.stop(timeout=10)


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
        sys.exit(_NOTHING_SHOWN)  # the agent's side says why
    except Exception as error:
        complain(f"renderer: {explain(error)}")
        sys.exit(_CANNOT_RENDER if isinstance(error, CannotRenderError) else 1)


def _render_until(stop: Connection, run: RunDirectory) -> None:
    with run_store(run, waiting=wait_on(run.labels)) as store:
        _render_for(LabelQueue(store), stop, run)


def _render_for(queue: LabelQueue, stop: Connection, run: RunDirectory) -> None:
    """Film what people will be asked about, until told to stop.

    Raises:
        NothingShownError: if one clip after the other cannot be shown, so that people would wait for ever.
    """
    clips, segment_renderer = ClipFolder(run.clips), make_segment_renderer(run.config.env_id, run.config.env_kwargs)
    failed = 0
    while not stop.poll():
        for segment in queue.to_render():
            try:
                render_clip(segment, clips, segment_renderer, run.config.playback_fps, queue)
                failed = 0
            except OSError:
                raise  # a full disk, say: no fault of the clip's
            except Exception as error:  # whatever a user's environment raises
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
    """A renderer that has shown one frame.

    Raises:
        CannotRenderError: if this machine, or the environment, cannot show any.
    """
    try:
        segment_renderer = SegmentRenderer(env_id, env_kwargs)
        segment_renderer.render_one()
    except Exception as error:  # whatever a user's environment raises
        raise CannotRenderError(explain(error)) from error
    return segment_renderer


def render_clip(
    segment: int, clips: ClipFolder, segment_renderer: SegmentRenderer, fps: int, queue: LabelQueue
) -> None:
    """Film a segment, read the film back, and say that it is there.

    Raises:
        PrefrlError: if it cannot be filmed.
    """
    scene, actions = clips.load_scene(segment)
    frames = segment_renderer.render(scene, actions)
    if len(frames) != len(actions):
        raise PrefrlError(f"{len(frames)} frames for {len(actions)} steps")
    write_clip_video(clips.video(segment), frames, fps)
    read_clip_video(clips.video(segment), len(actions))
    sync([clips.video(segment)])
    queue.rendered(segment, len(actions))
