"""Render the clips of a probe, to watch them."""

from __future__ import annotations

from collections.abc import Callable

from prefrl.experience.clips import ClipFolder
from prefrl.probing.request import ProbeRequest
from prefrl.probing.results import read_results
from prefrl.rendering.renderer import make_segment_renderer, render_video
from prefrl.runs.control import Control, StopTraining


def render_clips(
    request: ProbeRequest,
    report: Callable[[str, int, int], None] = lambda phase, done, wanted: None,
    control: Control | None = None,
) -> None:
    """Render the kept clips of a finished probe that have no video yet.

    Args:
        request: The probe, which was run with `watch`.
        report: Called with what is done, and with how many of how many clips.
        control: Stops the rendering.

    Raises:
        PrefrlError: if a clip is missing or damaged, or this machine cannot render it.
        StopTraining: if it was told to stop.
    """
    config, clips, control = request.run.config, ClipFolder(request.clip_folder), control or Control()
    numbers = [number for each in read_results(request.out).clips for number in each.segments]
    missing = [number for number in numbers if not clips.video(number).exists()]
    if not missing:
        return
    renderer = make_segment_renderer(config.env_id, config.env_kwargs)
    try:
        for done, number in enumerate(missing):
            report("rendering the clips", done, len(missing))
            if control.stop:
                raise StopTraining
            render_video(number, clips, renderer, config.playback_fps)
    finally:
        renderer.close()
