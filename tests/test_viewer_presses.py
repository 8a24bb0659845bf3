"""The viewer's window, offscreen: accidental presses, and undo."""

import contextlib
import os

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6")

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QApplication
from runs import SUMMARY
from viewing import answered, button, press

from clip_viewer import guard
from prefrl.feedback.leases import LabelQueue


@contextlib.contextmanager
def at_once(monkeypatch):
    """However busy the machine is, what is pressed in here comes within the time in which presses do not count."""
    with monkeypatch.context() as patch:
        patch.setattr(guard, "SECONDS", 60.0)
        yield


def test_a_pair_is_not_answered_in_its_first_quarter_of_a_second(window, run, qtbot, monkeypatch):
    for key in (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_X):
        window._present()
        with at_once(monkeypatch):
            qtbot.keyClick(window, key)
        assert answered(run) == 0
        assert LabelQueue(run[1]).problems() == []
    assert "just appeared" in window.panel.status.text()
    press(qtbot, window, Qt.Key.Key_Right)
    assert answered(run) == 1


def test_a_double_press_and_a_double_click_answer_one_pair(window, run, qtbot, monkeypatch):
    qtbot.wait(300)
    qtbot.keyClick(window, Qt.Key.Key_Left)
    with at_once(monkeypatch):
        for _ in range(2):
            qtbot.keyClick(window, Qt.Key.Key_Left)
            qtbot.wait(40)
    assert answered(run) == 1
    qtbot.wait(300)
    for between in (0, 300):  # a double click may be slow
        before = answered(run)
        qtbot.mouseClick(button(window, "Equal"), Qt.MouseButton.LeftButton)
        qtbot.wait(between)
        qtbot.mouseDClick(button(window, "Equal"), Qt.MouseButton.LeftButton)
        assert answered(run) == before + 1
        qtbot.wait(300)


@pytest.mark.parametrize("marked", [True, False])
def test_a_key_that_is_held_answers_one_pair(window, run, qtbot, marked):
    """Systems mark the presses of a held key as repeats, or send a release with each."""
    qtbot.wait(300)
    qtbot.keyPress(window, Qt.Key.Key_Left)
    qtbot.wait(400)
    for _ in range(20):
        for kind in (QEvent.Type.KeyRelease, QEvent.Type.KeyPress):
            QApplication.sendEvent(window, QKeyEvent(kind, Qt.Key.Key_Left, Qt.KeyboardModifier.NoModifier, "", marked))
        qtbot.wait(30)  # a release and its press come together, however busy the machine is
    qtbot.keyRelease(window, Qt.Key.Key_Left)
    assert answered(run) == 1


def test_a_held_backspace_takes_one_answer_back(window, run, qtbot, monkeypatch):
    press(qtbot, window, Qt.Key.Key_Left)
    press(qtbot, window, Qt.Key.Key_Right)
    qtbot.keyClick(window, Qt.Key.Key_Backspace)
    with at_once(monkeypatch):
        for _ in range(5):
            qtbot.keyClick(window, Qt.Key.Key_Backspace)
            qtbot.wait(30)
    assert answered(run) == 1


@pytest.mark.parametrize("name", ["Control", "Alt", "Shift", "Meta"])
def test_a_key_with_another_answers_nothing(window, run, qtbot, name):
    modifier = getattr(Qt.KeyboardModifier, f"{name}Modifier")
    for key in (Qt.Key.Key_Left, Qt.Key.Key_X, Qt.Key.Key_F):
        press(qtbot, window, key, modifier)
    assert (answered(run), LabelQueue(run[1]).problems(), run[1].closed) == (0, [], False)


def test_control_z_takes_back(window, run, qtbot):
    press(qtbot, window, Qt.Key.Key_Left)
    press(qtbot, window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert answered(run) == 0


# -- undo --------------------------------------------------------------------------------------------------------------


def test_undo_takes_back_what_is_shown_as_said_last(window, run, qtbot):
    said = {"Left": Qt.Key.Key_Left, "Broken clip": Qt.Key.Key_X, "Can't tell": Qt.Key.Key_Down}
    pairs = []
    for name, key in said.items():
        qtbot.waitUntil(lambda: bool(window.pairs), timeout=5000)
        pairs.append(window.pairs[0].lease.query_id)
        press(qtbot, window, key)
        assert name in window.panel.last.text()
    for name, query_id in reversed(list(zip(said, pairs, strict=True))):
        assert name in window.panel.last.text()
        assert button(window, "Undo").isEnabled()
        press(qtbot, window, Qt.Key.Key_Backspace)
        assert f"Taken back: {name}" in window.panel.status.text()
        qtbot.waitUntil(lambda q=query_id: window._in_view and window._in_view.lease.query_id == q, timeout=5000)
    assert window.panel.last.text() == ""
    assert not button(window, "Undo").isEnabled()
    assert (answered(run), LabelQueue(run[1]).problems()) == (0, [])


def dump(run):
    """All that people said, as it is stored."""
    with run[1].database.read() as connection:
        return [connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in ("answers", "withdrawals")]


@pytest.mark.parametrize("over", ["closed", "finished"])
@pytest.mark.parametrize("key", [Qt.Key.Key_Left, Qt.Key.Key_X])
def test_undo_after_the_end_is_refused_and_gives_the_reason(window, run, qtbot, over, key):
    press(qtbot, window, key)
    before = dump(run)
    if over == "closed":
        run[1].closed = True
    else:
        run[0].summary.write_text(SUMMARY)
    for wait in (0, 1500):  # at once, and once the window knows
        qtbot.wait(wait)
        press(qtbot, window, Qt.Key.Key_Backspace)
        assert "Not taken back" in window.panel.status.text()
        assert "finished" in window.panel.status.text()
        assert dump(run) == before
    assert not button(window, "Undo").isEnabled()


def test_nothing_is_changed_in_a_finished_run(window, run, qtbot):
    before = dump(run)
    run[0].summary.write_text(SUMMARY)
    for key in (Qt.Key.Key_Left, Qt.Key.Key_X):
        press(qtbot, window, key)
        assert "the run is finished" in window.panel.status.text()
    assert dump(run) == before
    qtbot.waitUntil(lambda: not window.pairs and "The run is finished" in window.clips.message.text(), timeout=3000)
