"""Every state of the window: the screenshot shows what the store contains."""

import contextlib
import os
from typing import NamedTuple

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6")

from asking import make_run
from prefrl_benchmarks.measure.screen import clip_areas
from PySide6.QtCore import QPoint, QRect
from PySide6.QtGui import QAccessible, QImage
from PySide6.QtWidgets import QLabel, QProgressBar, QPushButton
from runs import SUMMARY

from clip_viewer.buttons import ActionButton
from clip_viewer.fetcher import Fetcher
from clip_viewer.keys import OTHERS
from clip_viewer.session import Session
from clip_viewer.situation import State
from clip_viewer.texts import PlainLabel
from clip_viewer.theme import set_theme
from clip_viewer.window import LabelWindow
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.terms import Answer
from prefrl.runs.progress import from_json

SIZES = ((1120, 728), (640, 440))
"""What is left of 1366×768 below a title bar, and the smallest window."""
PAIRS, BUDGET = 4, 20
WAITING, TRAINING = "waiting for 3 labels from human", "training"
STOPPED = "stopped; resumable"


class Scene(NamedTuple):
    """A state, and what there must be on the screen."""

    state: State
    words: tuple[str, ...]
    """Somewhere on the screen."""
    says: str = TRAINING
    """What the agent said last; nothing where empty."""
    runs: bool = True
    """Whether its process is there."""
    answered: int = 1
    """Pairs that somebody has answered."""
    rendered: bool = True
    others: bool = False
    """Whether another person has all pairs in hand."""
    closed: bool = False
    finished: bool = False
    has_store: bool = True
    budget: int = BUDGET


GO_ON = ("answers are kept", "prefrl resume")
SCENES = {
    "starting": Scene(State.STARTING, ("The run is starting",), says="", has_store=False, answered=0),
    "not started": Scene(
        State.HALTED, ("No process", "prefrl resume"), says="", runs=False, has_store=False, answered=0
    ),
    "the first clips are rendered": Scene(State.RENDERING, ("4 pairs", "rendered"), rendered=False, answered=0),
    "pair": Scene(State.PAIR, ("Which is better?",)),
    "pair, the agent waits": Scene(State.PAIR, ("Which is better?", "The agent waits", "3 pairs"), says=WAITING),
    "pair, the agent was killed": Scene(State.PAIR, ("Which is better?", "was killed", *GO_ON), runs=False),
    "pair, the agent stopped": Scene(State.PAIR, ("was stopped", *GO_ON), says=STOPPED, runs=False),
    "waiting for the agent": Scene(
        State.WAITING, ("Waiting for the agent", "at step 1,200", "Waiting for 0:0"), answered=PAIRS
    ),
    "the agent was killed": Scene(State.HALTED, ("was killed", *GO_ON), runs=False, answered=PAIRS),
    "the agent stopped": Scene(State.HALTED, ("is stopped", *GO_ON), says=STOPPED, runs=False, answered=PAIRS),
    "somebody else has the rest": Scene(State.OTHERS, ("Other people", "(3)"), others=True),
    "all labels": Scene(State.DONE, ("All 4 labels",), answered=PAIRS, budget=PAIRS),
    "all labels, killed": Scene(State.DONE, ("was killed", *GO_ON), answered=PAIRS, budget=PAIRS, runs=False),
    "closed": Scene(State.CLOSED, ("for everyone", "1 of 20", "--labels 20"), closed=True),
    "closed, stopped": Scene(State.CLOSED, ("was stopped", *GO_ON), closed=True, says=STOPPED, runs=False),
    "finished": Scene(State.FINISHED, ("The run is finished", "can be closed"), finished=True, runs=False),
}


@contextlib.contextmanager
def opened(scene, tmp_path, qtbot):
    """The window in a scene."""
    made, store = make_run(tmp_path, pairs=PAIRS, **{"queries.labels": scene.budget})
    queue = LabelQueue(store)
    with contextlib.ExitStack() as stack:
        stack.callback(store.close)
        if scene.says:
            made.write_progress(from_json({"state": scene.says, "step": 1200, "steps": 2000}))
        if scene.runs:
            stack.callback(made.lock().release)
        if not scene.rendered:
            with store.database.write() as connection:
                connection.exec_driver_sql("DELETE FROM rendered")
        for lease in queue.lease("ben", PAIRS)[: scene.answered]:
            queue.answer(Answer(lease.query_id, Judgement.LEFT, "human", 10, "ben", 1.0))
        if not scene.others:
            queue.release("ben")
        store.closed = scene.closed
        if not scene.has_store:
            made.labels.rename(made.labels.with_suffix(".later"))
        session = Session(made.root, "ann")
        if scene.finished:
            made.summary.write_text(SUMMARY)
        window = LabelWindow(session, Fetcher(session))
        stack.callback(window.close)
        qtbot.addWidget(window)
        window.show()
        shows = scene.state is State.PAIR
        qtbot.waitUntil(lambda: window._problems is not None and bool(window.pairs) is shows, timeout=10000)
        assert window._state is scene.state
        yield window


def picture(window):
    """(H, W, 3) what is on the screen."""
    image = window.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def texts(window):
    """All that can be read."""
    labels = [label.text() for label in window.findChildren(QLabel) if label.isVisible()]
    return " ".join([*labels, window.panel.done.text()]).replace("\u200b", "").replace("\n", " ")


def place(widget, window):
    return QRect(widget.mapTo(window, QPoint(0, 0)), widget.size())


def check_that_all_fits(window):
    for widget in (*window.findChildren(ActionButton), *window.findChildren(QLabel), window.panel.done):
        if not widget.isVisible() or window.instruction.isAncestorOf(widget):
            continue
        assert window.rect().contains(place(widget, window)), widget.text()
        if isinstance(widget, PlainLabel) and widget.wordWrap() and widget.text():
            assert widget.heightForWidth(widget.width()) <= widget.height(), widget.text()
        else:
            assert widget.sizeHint().width() <= widget.width() or isinstance(widget, QProgressBar), widget.text()


def check_clips(window, shown):
    """In two frames, side by side, the clips of the pair in hand, and above each the name of its side."""
    areas = clip_areas(shown)
    assert (areas is not None) is bool(window.pairs)
    if areas is None:
        assert window.clips.message.isVisible()
        return
    lease = window.pairs[0].lease
    for area, segment in zip(areas, (lease.segments[0], lease.segments[1]), strict=True):
        assert (area.of(shown) == segment).all()
        assert min(area.width, area.height) > 60
    captions = [label for label in window.findChildren(QLabel) if label.text() in ("Left", "Right")]
    for caption, area in zip(captions, areas, strict=True):
        at = place(caption, window)
        assert at.bottom() < area.top
        assert abs(at.center().x() - (area.left + area.width / 2)) <= 2


def check_the_bar(window, shown, answered, budget):
    assert f"{answered} of {budget} labels" in window.panel.done.text()
    at = place(window.panel.done, window)
    row = shown[at.top() + 4, at.left() + 2 : at.right() - 2].astype(int)
    filled = np.abs(row - row[0]).max(axis=1) < 12
    if answered:
        assert filled.argmin() / len(row) == pytest.approx(answered / budget, abs=0.03) or answered == budget


def check_buttons(window, has_store):
    over = window._state in (State.CLOSED, State.FINISHED)
    for button in window.findChildren(ActionButton):
        dead = button.action in window.keys.of_a_query and not window.pairs
        dead |= button.action.name == "Finish" and (over or not has_store)
        dead |= button.action.name == "Undo"  # ann has said nothing yet
        assert button.isEnabled() is not dead, button.text()
    assert bool(window.panel.playing.text()) is bool(window.pairs)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("name", SCENES)
def test_what_is_on_the_screen_is_what_the_store_says(name, theme, tmp_path, qtbot):
    scene = SCENES[name]
    set_theme(theme)
    with opened(scene, tmp_path, qtbot) as window:
        for size in SIZES:
            window.resize(*size)
            qtbot.wait(120)
            assert (window.width(), window.height()) == size
            shown = picture(window)
            if folder := os.environ.get("PREFRL_TEST_PICTURES"):
                window.grab().save(f"{folder}/{name.replace(' ', '-')}-{theme}-{size[0]}.png")
            assert [word for word in scene.words if word not in texts(window)] == []
            check_that_all_fits(window)
            check_clips(window, shown)
            check_the_bar(window, shown, scene.answered, scene.budget)
            check_buttons(window, scene.has_store)


def test_a_screen_reader_reads_what_is_shown(tmp_path, qtbot):
    for name in ("pair, the agent was killed", "closed"):
        with opened(SCENES[name], tmp_path / name, qtbot) as window:
            read = {}
            for widget in window.findChildren(QLabel) + window.findChildren(QPushButton) + [window.panel.done]:
                if widget.isVisible():
                    interface = QAccessible.queryAccessibleInterface(widget)
                    read[widget.text()] = interface.text(QAccessible.Text.Name)
            assert all(said == text for text, said in read.items())
            assert {*(f"{a.sign}  {a.name}" for a in (*window.keys.answers[:3], *OTHERS)), "Right  →"} <= set(read)


def test_a_window_follows_what_happens_to_the_agent_within_two_seconds(tmp_path, qtbot):
    with opened(SCENES["pair, the agent was killed"], tmp_path, qtbot) as window:
        run = window._session.run
        with run.lock():
            qtbot.waitUntil(lambda: "killed" not in texts(window), timeout=2000)
        qtbot.waitUntil(lambda: "was killed" in texts(window), timeout=2000)
        run.write_progress(from_json({"state": STOPPED, "step": 1200, "steps": 2000}))
        qtbot.waitUntil(lambda: "was stopped" in texts(window), timeout=2000)
        window._session._store.closed = True
        qtbot.waitUntil(lambda: "for everyone" in texts(window) and not window.pairs, timeout=2000)
        run.summary.write_text(SUMMARY)
        qtbot.waitUntil(lambda: "The run is finished" in texts(window), timeout=2000)
