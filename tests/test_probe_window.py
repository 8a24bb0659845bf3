"""The clips of a probe in a window: what it shows, its keys, and the run's queue."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6")

from labelled import make_run, random_segment
from PySide6.QtCore import Qt
from runs import error_line, prefrl
from viewing import button

from clip_viewer import app
from clip_viewer.buttons import ActionButton
from clip_viewer.probe_clips import ProbeClips
from clip_viewer.probe_window import ProbeWindow
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.run_store import run_store
from prefrl.feedback.store import LabelStore
from prefrl.probing import judged, probe
from prefrl.probing import results as results_module
from prefrl.probing.earlier import inputs_of, still_valid
from prefrl.probing.found import Found
from prefrl.probing.request import ProbeRequest, probe_request
from prefrl.probing.results import Outcome, ProbeResults, read_results
from prefrl.recipes import resolve
from prefrl.rendering.clip_video import write_clip_video
from prefrl.runs.directory import RunDirectory

KEY = Qt.Key
STEPS = 15
REFERENCE = Outcome("reference", None, None, 0.0, -1.0, 0.1, -5.0, 1.0, 0.0)


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    """Drawing takes longer than all else here."""
    monkeypatch.setattr(results_module, "figure", lambda results: b"")


def made(folder: Path, feedback: str = "comparison", count: int = 3, *, queued: bool = False) -> ProbeRequest:
    """A finished probe without agents. The brightness of a clip is 20 plus ten times its number."""
    run = make_run(folder / "run", feedback=feedback)
    LabelStore(run.labels, create=True).close()
    out = folder / "run-probe"
    request = ProbeRequest(run, out, (0.0,), (0,), 100, False, 4, count, watch=True)
    arity, clips = request.kind.arity, ClipFolder(request.clip_folder)
    request.clip_folder.mkdir(parents=True)
    found = []
    for rank in range(count):
        numbers = [rank * arity + place for place in range(arity)]
        for number in numbers:
            clips.save(random_segment(number))
            frames = np.full((STEPS, 24, 24, 3), 20 + 10 * number, np.uint8)
            write_clip_video(clips.video(number), frames, run.config.playback_fps)
        found.append(Found(f"kl-{rank}-seed-0", 5.5 - rank, -1.25 * rank, tuple(numbers[:: (-1) ** rank])))
    ProbeResults(str(run.root), "reacher", 20, 100, "newest", [REFERENCE], found, queued).write(out)
    return request


@contextlib.contextmanager
def opened(request, qtbot):
    window = ProbeWindow(ProbeClips(request), "reacher - probe")
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    try:
        yield window
    finally:
        window.close()


def shades(window):
    """The brightness in the middle of each clip."""
    pictures = [view.grab().toImage() for view in window.clips.views]
    return [each.pixelColor(each.width() // 2, each.height() // 2).red() for each in pictures]


def captions(window):
    return [caption.text() for caption in window.clips._captions if not caption.isHidden()]


def pending(request):
    with run_store(request.run) as store:
        return store.counts()["pending"]


def plain(label):
    """The text of a label, without the marks at which it may break."""
    return label.text().replace("\u200b", "")


def test_each_clip_of_an_agent_is_shown_next_to_the_reference(tmp_path, qtbot):
    with opened(made(tmp_path), qtbot) as window:
        assert shades(window) == [20, 30]
        assert captions(window) == ["Agent kl-0-seed-0", "Reference"]
        assert plain(window.headline) == "Clip 1 of 3"
        assert plain(window.excess) == "Reward above the mean of the reference's clips: predicted +5.50, true +0.00"
        assert not button(window, "Previous").isEnabled()
        qtbot.keyClick(window, KEY.Key_Left)
        assert plain(window.headline) == "Clip 1 of 3"
        qtbot.keyClick(window, KEY.Key_Right)
        assert shades(window) == [40, 50]  # also where a query shows the agent's clip on the right
        assert captions(window) == ["Agent kl-1-seed-0", "Reference"]
        assert window.clips.views[0].accessibleName() == "Agent kl-1-seed-0 clip"
        assert plain(window.excess).endswith("predicted +4.50, true -1.25")
        assert button(window, "Previous").isEnabled()
        qtbot.mouseClick(button(window, "Next"), Qt.MouseButton.LeftButton)
        assert (plain(window.headline), shades(window)) == ("Clip 3 of 3", [60, 70])
        assert not button(window, "Next").isEnabled()
        qtbot.keyClick(window, KEY.Key_Right)
        assert plain(window.headline) == "Clip 3 of 3"
        qtbot.keyClick(window, KEY.Key_Left)
        assert (plain(window.headline), shades(window)) == ("Clip 2 of 3", [40, 50])


@pytest.mark.parametrize(("feedback", "kind", "clips"), [("rating", "rating", 1), ("marks", "marks", 1)])
def test_kinds_with_one_clip_show_and_queue_the_agents_alone(tmp_path, qtbot, feedback, kind, clips):
    request = made(tmp_path, feedback)
    with opened(request, qtbot) as window:
        assert (captions(window), shades(window)) == (["Agent kl-0-seed-0"], [20])
        qtbot.keyClick(window, KEY.Key_Right)
        assert (captions(window), shades(window)) == (["Agent kl-1-seed-0"], [30])
        qtbot.keyClick(window, KEY.Key_Q)
    assert pending(request) == 3
    with run_store(request.run) as store:
        assert [(query.kind, len(query.segments)) for query in store.pending()] == [(kind, clips)] * 3


def test_of_several_kinds_the_one_that_shows_the_reference_is_asked(tmp_path, qtbot):
    request = made(tmp_path, "rating:3,comparison:1")
    assert request.kind.name == "comparison"
    with opened(request, qtbot) as window:
        assert shades(window) == [20, 30]
        qtbot.keyClick(window, KEY.Key_Q)
        assert pending(request) == 3


def test_the_keys_of_playback(tmp_path, qtbot):
    with opened(made(tmp_path), qtbot) as window:
        player = window.player
        assert plain(window.playing) == "▶ playing ×1"
        qtbot.waitUntil(lambda: player.frame > 0, timeout=5000)
        qtbot.keyClick(window, KEY.Key_Space)
        assert plain(window.playing) == "❚❚ paused ×1"
        frame = player.frame
        qtbot.wait(300)
        assert player.frame == frame
        qtbot.keyClick(window, KEY.Key_Period)
        assert player.frame == (frame + 1) % STEPS
        qtbot.keyClick(window, KEY.Key_Comma)
        assert player.frame == frame
        qtbot.keyClick(window, KEY.Key_Space)
        qtbot.keyClick(window, KEY.Key_BracketRight)
        assert plain(window.playing) == "▶ playing ×2"
        for _ in range(2):
            qtbot.keyClick(window, KEY.Key_BracketLeft)
        assert (plain(window.playing), player.speed) == ("▶ playing ×0.5", 0.5)


@pytest.mark.parametrize(("key", "modifier"), [(KEY.Key_Escape, "NoModifier"), (KEY.Key_Q, "ControlModifier")])
def test_the_window_closes_and_queues_nothing(tmp_path, qtbot, key, modifier):
    request = made(tmp_path)
    with opened(request, qtbot) as window:
        qtbot.keyClick(window, key, getattr(Qt.KeyboardModifier, modifier))
        assert not window.isVisible()
    assert pending(request) == 0


@pytest.mark.parametrize("by", ["key", "button"])
def test_all_clips_are_queued_once(tmp_path, qtbot, by):
    request = made(tmp_path)
    with opened(request, qtbot) as window:
        assert window.queued.isHidden()
        if by == "key":
            qtbot.keyClick(window, KEY.Key_Q)
        else:
            qtbot.mouseClick(button(window, "Queue all"), Qt.MouseButton.LeftButton)
        told = f"3 queries are in the queue of {request.run.root}; to ask them: prefrl resume {request.run.root} "
        assert plain(window.queued) == f"{told}--labels 23 --steps N"
        assert not button(window, "Queue all").isEnabled()
        assert (pending(request), read_results(request.out).queued) == (3, True)
        qtbot.keyClick(window, KEY.Key_Q)
        assert plain(window.queued).startswith(f"Already queued: {told}")
        assert pending(request) == 3
    with opened(request, qtbot) as window:  # and so says the next window
        assert plain(window.queued).startswith(f"Already queued: {told}")
        qtbot.keyClick(window, KEY.Key_Q)
        assert not button(window, "Queue all").isEnabled()
    assert pending(request) == 3


def test_while_the_run_is_in_use_nothing_is_queued(tmp_path, qtbot):
    request = made(tmp_path)
    with opened(request, qtbot) as window:
        lock = request.run.lock()
        qtbot.keyClick(window, KEY.Key_Q)
        assert plain(window.queued) == f"Not queued: {request.run.root} is in use by another process"
        lock.release()
        qtbot.keyClick(window, KEY.Key_Q)
        assert plain(window.queued).startswith("3 queries are in the queue")


def test_a_damaged_clip_is_told_and_the_others_are_shown(tmp_path, qtbot):
    request = made(tmp_path)
    ClipFolder(request.clip_folder).video(0).write_bytes(b"")
    with opened(request, qtbot) as window:
        assert window.clips.currentIndex() == 0
        assert "cannot be read" in plain(window.clips.message)
        assert plain(window.playing) == ""
        qtbot.keyClick(window, KEY.Key_Right)
        assert (window.clips.currentIndex(), shades(window)) == (1, [40, 50])


def test_every_button_says_its_key_and_all_of_the_window_fits(tmp_path, qtbot):
    with opened(made(tmp_path), qtbot) as window:
        texts = {one.text() for one in window.findChildren(ActionButton)}
        assert {"←  Previous", "Next  →", "Q  Queue all", "Esc  Close", "Space  Pause"} <= texts
        qtbot.keyClick(window, KEY.Key_Q)
        window.resize(640, 480)
        qtbot.waitUntil(lambda: window.width() == 640)
        assert all(window.rect().contains(each.geometry()) for each in window.children() if hasattr(each, "isHidden"))
        if folder := os.environ.get("PREFRL_TEST_PICTURES"):
            window.grab().save(f"{folder}/probe-small.png")


def test_a_probe_without_clips_has_nothing_to_show(tmp_path):
    with pytest.raises(PrefrlError, match="no clips to watch"):
        ProbeClips(made(tmp_path, count=0))


# -- what is kept, and judged again -----------------------------------------------------------------------------------


def test_watching_needs_clips_and_snapshots(finished, monkeypatch):
    with pytest.raises(UsageError, match="--watch needs --clips"):
        probe_request(finished, clips=0, watch=True)
    seen = []

    def stack(config, *, shown):
        seen.append((config.native_engine, shown))
        raise InterruptedError

    monkeypatch.setattr(judged, "make_stack", stack)
    config = resolve("pong")
    assert config.native_engine
    for shown in (True, False):
        with pytest.raises(InterruptedError):
            judged.judge(None, None, None, config, episodes=2, seed=0, shown=shown)
    assert seen == [(False, True), (True, False)]  # the engine has no snapshots


def test_results_stand_until_something_changes_that_they_depend_on(tmp_path):
    request = made(tmp_path)
    agent, run = request.root(0.0, 0) / "checkpoints", request.run
    agent.mkdir(parents=True)
    paths = [run.weights, run.checkpoints / "000000000100.safetensors", agent / "000000000100.safetensors"]
    for path in paths:
        path.write_bytes(b"1")
    results = read_results(request.out)
    unwatched = dataclasses.replace(request, watch=False)
    assert still_valid(unwatched) is None  # of an older version
    results = dataclasses.replace(results, inputs=inputs_of(request))
    results.write(request.out)
    assert still_valid(unwatched) == results
    assert still_valid(request) is None  # nothing was kept to render the clips from
    clips = ClipFolder(request.clip_folder)
    for number in range(6):
        clips.save_scene(dataclasses.replace(random_segment(number), scene={"state": {"x": np.zeros(1)}}))
    assert still_valid(request) == results
    for name, value in {
        "betas": (1.0,), "seeds": (1,), "steps": 99, "initial": True, "episodes": 5, "clips": 2,
    }.items():  # fmt: skip
        assert still_valid(dataclasses.replace(request, **{name: value})) is None, name
    for path in paths:
        path.write_bytes(b"12")
        assert still_valid(request) is None, path
        results = dataclasses.replace(results, inputs=inputs_of(request))
        results.write(request.out)
        assert still_valid(request) == results


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_of_an_oracle_is_probed_watched_and_queued(finished, tmp_path, qtbot, monkeypatch):
    run, out = Path(shutil.copytree(finished, tmp_path / "run")), tmp_path / "probe"
    words = ["reward", "probe", run, "--kl", "0", "--steps", "512", "--episodes", "2", "--clips", "2", "--out", out]
    assert prefrl(*words).code == 0
    first = read_results(out)
    assert not list((out / "clips").glob("*.scene.safetensors"))
    windows = []

    def show(application, window):
        windows.append(window)
        qtbot.addWidget(window)
        window.show()
        if folder := os.environ.get("PREFRL_TEST_PICTURES"):
            window.grab().save(f"{folder}/probe-{len(windows)}.png")
        qtbot.keyClick(window, KEY.Key_Q)
        qtbot.keyClick(window, KEY.Key_Escape)
        return 0

    monkeypatch.setattr(app, "show", show)
    watched = prefrl(*words, "--watch")
    assert watched.code == 0, watched.err
    assert dataclasses.replace(read_results(out), queued=False) == first  # the same clips, which can be shown now
    assert len(list((out / "clips").glob("*.avi"))) == 4
    assert "kl-0-seed-0" in watched.out
    assert f"2 queries are in the queue of {run}" in watched.out.splitlines()[-1]
    frames = windows[0]._frames
    assert [len(each) for each in frames] == [RunDirectory.open(run).config.queries.segment_length] * 2
    assert frames[0][0].size().width() == 320
    assert frames[0][0] != frames[0][-1]  # the arm moves
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.avi")}
    with (
        mock.patch.object(probe, "judge", side_effect=AssertionError("judged again")),
        mock.patch.object(probe, "resume", side_effect=AssertionError("trained again")),
    ):
        again = prefrl(*words, "--watch")
    assert again.code == 0, again.err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.avi")} == before
    assert plain(windows[1].queued).startswith("Already queued: 2 queries")
    assert "in the queue" not in again.out  # nothing was queued by this call
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    blind = prefrl(*words, "--watch")
    assert (blind.code, "there is no display" in error_line(blind)) == (1, True)
    assert "kl-0-seed-0" in blind.out
    assert len(windows) == 2
