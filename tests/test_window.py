"""The real window on a virtual screen with real key presses: what a person sees and answers is what is stored."""

import contextlib
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("PySide6")
if not (shutil.which("Xvfb") and shutil.which("xdotool")):
    pytest.skip("needs Xvfb and xdotool", allow_module_level=True)

from asking import make_run
from person import Person, standing
from prefrl_benchmarks.measure import viewer
from prefrl_benchmarks.measure.screen import Box, Screen, clip_areas, message_area
from prefrl_benchmarks.scripts.screenshots import take
from runs import live, prefrl, until
from test_human import SMALL

from prefrl.feedback.leases import LabelQueue

LABELS = 12
SPECIAL = {1: "left", 2: "equal", 5: "incomparable", 8: "equal", 10: "right"}
"""What the person says of the pairs that come at these places, whatever they show."""

_PAUSE = 0.6
"""Longer than a pair must be on the screen before it can be answered, on a busy machine."""
_SLACK = 2.0
"""Seconds that a busy machine may add."""
_TO_BUTTON = 40
"""Pixels from a clip down to the middle of its button."""
_NOTICE = Box(0, 700, 1100, 60)
"""Below the answers, where the window says how the agent is."""
_QWERTY = {"x": 53, "d": 40, "z": 52, "q": 24}
_DVORAK = {"x": 56, "d": 43, "z": 61, "q": 53}
_CONTROL = 37
"""Keys as X11 counts them."""


def _words_of(layout):
    name, _, variant = layout.partition("(")
    return [name, *(["-variant", variant.rstrip(")")] if variant else [])]


@pytest.fixture
def screen():
    with Screen() as opened:
        yield opened


def train(root, task="moving-dot", **settings):
    words = [f"{key}={value}" for key, value in (SMALL | settings).items()]
    flags = ["--teacher", "human", "--labels", str(LABELS), "--steps", "2000", "--out", str(root)]
    return live(root.with_suffix(".log"), "train", task, *flags, "--set", *words)


@pytest.mark.slow
def test_what_a_person_sees_and_says_is_what_is_stored(tmp_path, screen):
    root = tmp_path / "run"
    with Person(screen, root) as person, train(root) as run:
        until((root / "config.json").exists, "the run's folder")
        person.open()  # before there is any clip
        seen = person.see()
        for place in range(LABELS + 1):  # one of them is no label
            person.say(seen, SPECIAL.get(place) or person.better(seen))
            if place == 3:
                taken = person.take_back()
                assert person.see() == taken[:4]
                person.say(seen, "equal")
            if place == 6:
                person.close()
                person.open("--theme", "dark")
                assert person.see()
                taken = person.take_back()  # of the viewer before
                seen = person.see()
                assert seen == taken[:4]
                person.say(seen, person.better(seen))
            if place < LABELS:
                seen = person.see(besides=seen.query)
        assert run.wait() == 0, run.err
        person.close()
    assert standing(root) == [(said.query, said.left, said.key) for said in person.said]
    assert {said.key for said in person.said} == {"left", "right", "equal", "incomparable"}


@pytest.mark.slow
def test_the_window_says_what_it_waits_for_and_shows_real_clips(tmp_path, screen):
    root = tmp_path / "run"
    with Person(screen, root) as person, train(root, "hopper-backflip"):
        until((root / "config.json").exists, "the run's folder")
        person.open("--theme", "light")
        until(lambda: message_area(screen.grab()), "black from the first, with the reason in its middle")
        assert person.see()
        take(screen, tmp_path / "light.png")
        assert min(cv2.imread(str(tmp_path / "light.png")).shape[:2]) > 500
        light = screen.grab()[5, 5]
        screen.key("d")
        until(lambda: screen.grab()[5, 5].max() < light.min() / 2, "dark colours")
        person.close()


@pytest.mark.parametrize("display", [":4711", ""])
def test_without_a_display_there_is_one_line(tmp_path, monkeypatch, display):
    root = tmp_path / "run"
    from runs import refused, spawned

    from prefrl.recipes import resolve
    from prefrl.runs.directory import RunDirectory

    RunDirectory.create(root, resolve("moving-dot", teacher="human"))
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    line = refused(spawned("label", root, DISPLAY=display), 1)
    assert "DISPLAY" in line
    assert "prefrl doctor" in line
    assert prefrl("status", root).code == 0


def test_ctrl_c_in_the_terminal_closes_the_window_and_gives_its_pairs_back(tmp_path, screen, run):
    made, store = run
    with Person(screen, made.root) as person:
        person.open()
        until(lambda: LabelQueue(store).waiting()["leased"], "pairs in hand")
        person.viewer.send_signal(signal.SIGINT)
        _, complaints = person.viewer.communicate(timeout=10)
        assert (person.viewer.returncode, complaints) == (0, "")
        person.viewer = None
    assert LabelQueue(store).waiting()["leased"] == 0


# -- keys of a real keyboard ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def viewing(screen, root):
    """The viewer with a pair on the screen that was there for long enough to be answered."""
    with Person(screen, root) as person:
        person.open("--theme", "light")
        until(lambda: clip_areas(screen.grab()), "a pair")
        time.sleep(_PAUSE)
        yield person


def settled(screen, command):
    """Have xdotool do something, and give the viewer time to heed it."""
    screen.tell(command)
    time.sleep(_PAUSE)


def test_what_nobody_can_mean_answers_nothing_and_what_they_mean_is_taken(tmp_path, screen):
    made, store = make_run(tmp_path, pairs=16)
    with viewing(screen, made.root):
        screen.tell("keydown Left")
        time.sleep(2.5)  # the server repeats it from 0.66 s on
        settled(screen, "keyup Left")
        assert store.counts()["answered"] == 1
        settled(screen, "key --delay 0 Left key --delay 0 Left key --delay 0 Right")
        assert store.counts()["answered"] == 2
        for other in ("ctrl", "alt", "shift", "super"):
            for key in ("Left", "x", "f"):
                settled(screen, f"key {other}+{key}")
        assert (store.counts()["answered"], LabelQueue(store).problems(), store.closed) == (2, [], False)
        settled(screen, "key ctrl+z")
        until(lambda: store.counts()["answered"] == 1, "one taken back")
        until(lambda: clip_areas(screen.grab()), "its pair")
        time.sleep(_PAUSE)
        settled(screen, "key KP_Left")
        until(lambda: store.counts()["answered"] == 2, "the keypad's arrow")
        time.sleep(_PAUSE)
        clip = clip_areas(screen.grab())[0]
        on_left = f"{clip.left + 50} {clip.top + clip.height + _TO_BUTTON}"
        settled(screen, f"mousemove {on_left} click 1 sleep 0.15 click 1")
        until(lambda: store.counts()["answered"] == 3, "a click")
        time.sleep(_PAUSE)
        assert store.counts()["answered"] == 3
    store.close()


@pytest.mark.skipif(shutil.which("setxkbmap") is None, reason="needs setxkbmap")
@pytest.mark.parametrize("layout", ["ru", "gr", "il", "us(dvorak)"])
def test_keys_work_on_other_layouts(tmp_path, screen, layout):
    made, store = make_run(tmp_path)
    subprocess.run(["setxkbmap", "-display", screen.display, *_words_of(layout)], check=True)
    place = _DVORAK if "dvorak" in layout else _QWERTY
    with viewing(screen, made.root) as person:
        light = screen.grab()[5, 5]
        settled(screen, f"key {place['d']}")
        until(lambda: screen.grab()[5, 5].max() < light.min() / 2, "dark colours")
        settled(screen, f"key {place['x']}")
        until(lambda: LabelQueue(store).problems(), "a broken clip")
        settled(screen, f"keydown {_CONTROL} key {place['z']} keyup {_CONTROL}")
        until(lambda: not LabelQueue(store).problems(), "it is taken back")
        settled(screen, f"keydown {_CONTROL} key {place['q']} keyup {_CONTROL}")
        assert person.viewer.wait(timeout=30) == 0
        person.viewer.communicate()
        person.viewer = None
    store.close()


# -- what is on the screen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1366, 768), (1024, 600), (640, 480)])
def test_all_of_the_window_is_on_a_small_screen(tmp_path, size):
    made, store = make_run(tmp_path)
    with Screen(size) as screen, viewing(screen, made.root):
        used = screen.grab().max(axis=2) > 0
        rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
        assert rows[-1] < size[1] - 30  # with room for a title bar
        assert columns[-1] < size[0]
        left, right = clip_areas(screen.grab())
        assert left.height > 70
        assert (left.top, left.width, left.height) == (right.top, right.width, right.height)
        screen.tell(f"mousemove {columns[-1] - 40} {rows[-1] - 20} click 1")  # Help, the last of the buttons
        until(lambda: clip_areas(screen.grab()) is None or _differs(screen, used), "the help over it")
    store.close()


def _differs(screen, used):
    return ((screen.grab().max(axis=2) > 0) != used).mean() > 0.02


def test_a_killed_agent_is_reported_within_two_seconds(tmp_path, screen):
    """The agent is killed while the window waits for it, and the words where the clips would be change."""
    root = tmp_path / "run"
    with Person(screen, root) as person, train(root, **{"queries.lead": 0}) as run:
        until((root / "config.json").exists, "the run's folder")
        person.open()
        seen = person.see()
        run.send(signal.SIGKILL, group=True)
        run.wait()
        killed = time.monotonic()
        notice = screen.grab(_NOTICE)
        until(lambda: bool((screen.grab(_NOTICE) != notice).any()), "what became of the agent")
        assert time.monotonic() - killed < 2.0 + _SLACK
        person.say(seen, "left")
        until(lambda: standing(root), "the answer, which is kept")
        person.close()


@pytest.mark.slow
def test_the_viewer_is_measured_at_its_real_window():
    result = viewer.measure(keys=3, starts=1, seconds=1)
    assert len(viewer.report_lines(result)) >= 3


PAINTED_THEN_INTERRUPTED = """
import signal, sys
from clip_viewer import app, views

paint, painted = views.ClipView.paintEvent, []

def interrupted(view, event):
    paint(view, event)
    painted.append(view._image is not None)
    if sum(painted) == 20:
        signal.raise_signal(signal.SIGINT)

views.ClipView.paintEvent = interrupted
from pathlib import Path
sys.exit(app.open_viewer(Path(sys.argv[1]), "ann"))
"""


def test_ctrl_c_while_a_clip_is_painted(screen, run):
    """The window must not go away under Qt's hands."""
    made, _ = run
    words = [sys.executable, "-c", PAINTED_THEN_INTERRUPTED, str(made.root)]
    done = subprocess.run(words, env=screen.environment(), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
