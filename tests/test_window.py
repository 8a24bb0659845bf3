"""The real window on a real screen, with real keys: what a person sees and says is what is stored."""

import shutil
import signal
import subprocess
import sys

import cv2
import pytest

pytest.importorskip("PySide6")
if not (shutil.which("Xvfb") and shutil.which("xdotool")):
    pytest.skip("needs Xvfb and xdotool", allow_module_level=True)

from person import Person, standing
from prefrl_benchmarks import viewer
from prefrl_benchmarks.screen import Screen, message_area
from prefrl_benchmarks.screenshots import take
from runs import live, prefrl, until
from test_human import SMALL

from prefrl.queue import LabelQueue

LABELS = 12
SPECIAL = {2: "equal", 5: "incomparable", 8: "equal"}
"""What the person says of the pairs that come at these places."""


@pytest.fixture
def screen():
    with Screen() as opened:
        yield opened


def train(root, task="moving-dot", **settings):
    words = [f"{key}={value}" for key, value in (SMALL | settings).items()]
    flags = ["--teacher", "human", "--labels", str(LABELS), "--steps", "2000", "--out", str(root)]
    return live(root.with_suffix(".log"), "train", task, *flags, "--set", *words)


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
def test_without_a_screen_one_line_says_so(tmp_path, monkeypatch, display):
    root = tmp_path / "run"
    from runs import refused, spawned

    from prefrl.recipes import resolve
    from prefrl.run import RunDirectory

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
sys.exit(app.label(Path(sys.argv[1]), "ann"))
"""


def test_ctrl_c_while_a_clip_is_painted(screen, run):
    """The window must not go away under Qt's hands."""
    made, _ = run
    words = [sys.executable, "-c", PAINTED_THEN_INTERRUPTED, str(made.root)]
    done = subprocess.run(words, env=screen.environment(), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
