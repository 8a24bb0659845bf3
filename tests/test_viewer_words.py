"""The viewer's window, offscreen: its messages."""

import errno
import os

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6")

from asking import make_run
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox
from viewing import answered, press

from clip_viewer.dialogs import YES
from clip_viewer.fetcher import Fetcher
from clip_viewer.session import Session
from clip_viewer.window import LabelWindow
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.terms import Answer


def test_flags_are_confirmed_to_the_labeller_and_reported_to_others(window, run, qtbot):
    qtbot.waitUntil(lambda: window._problems is not None, timeout=5000)
    press(qtbot, window, Qt.Key.Key_X)
    assert "Marked as broken" in window.panel.status.text()
    qtbot.wait(1200)
    assert "You said" in window.panel.status.text()
    LabelQueue(run[1]).withdraw(6, "a clip is broken", "b<b>e\x1b[2Jn")
    told = "A pair was dropped: b<b>e\\x1b[2Jn says: a clip is broken"
    qtbot.waitUntil(lambda: window.panel.status.text().replace("\u200b", "") == told, timeout=5000)


def test_uncounted_answers_show_the_reason(tmp_path, qtbot):
    made, store = make_run(tmp_path, pairs=16, **{"queries.repeats": 0.1})
    session = Session(made.root, "ann")
    window = LabelWindow(session, Fetcher(session))
    qtbot.addWidget(window)
    window.show()
    for number in range(17):
        qtbot.waitUntil(lambda: bool(window.pairs), timeout=5000)
        repeat = window.pairs[0].lease.query_id > 16
        press(qtbot, window, Qt.Key.Key_Left if number else Qt.Key.Key_Down)
        assert ("asked before" in window.panel.status.text()) is repeat
        assert ("does not count" in window.panel.status.text()) is (repeat or not number)
    told = "15 of 20 labels   ·   not counted: 1 can't tell, 1 repeated   ·"
    qtbot.waitUntil(lambda: window.panel.done.text().startswith(told), timeout=5000)
    window.close()
    store.close()


def test_what_finish_does_and_how_to_reverse_it_is_reported_and_the_budget_stays(window, run, qtbot, monkeypatch):
    told = []
    answer = lambda box: (told.append(box.text()), next(b for b in box.buttons() if b.text() == YES).click())  # noqa: E731
    monkeypatch.setattr(QMessageBox, "exec", answer)
    press(qtbot, window, Qt.Key.Key_Left)
    qtbot.waitUntil(lambda: window.panel.done.value() == 1 and window._can_finish, timeout=5000)
    press(qtbot, window, Qt.Key.Key_F)
    assert all(word in told[0] for word in ("for everyone", "1 of 20", "prefrl resume", "--labels 20"))
    qtbot.waitUntil(lambda: "labelling is finished" in window.panel.done.text(), timeout=5000)
    assert window.panel.done.text().startswith("1 of 20 labels")
    press(qtbot, window, Qt.Key.Key_F)
    assert "already finished" in window.panel.status.text()
    assert len(told) == 1


def test_a_full_disk_is_reported_until_an_answer_is_stored(window, run, qtbot, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("clip_viewer.panel._NOTE_SECONDS", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(window._session._queue, "answer", full)
        press(qtbot, window, Qt.Key.Key_Left)
        qtbot.wait(1500)
        assert "Not stored: the disk is full" in window.panel.status.text()
        assert (answered(run), window.panel.last.text()) == (0, "")
    press(qtbot, window, Qt.Key.Key_Left)
    assert window.panel.status.text() == "Which is better?"


def test_a_pair_that_somebody_else_answered_is_reported(window, run, qtbot):
    lease = window.pairs[0].lease
    run[1].add_answers([Answer(lease.query_id, Judgement.RIGHT, "human", 10, "ben", 1.0)])
    press(qtbot, window, Qt.Key.Key_Left)
    assert "Somebody else had answered" in window.panel.status.text()
    assert (run[1].counts()["left"], run[1].counts()["right"]) == (0, 1)
    assert window.pairs[0].lease.query_id != lease.query_id


def test_a_damaged_clip_is_reported_and_the_next_pair_comes(run, qtbot):
    damaged = ClipFolder(run[0].clips).video(8)  # of the fifth pair, not in hand at first
    damaged.write_bytes(damaged.read_bytes()[:100])
    session = Session(run[0].root, "ann")
    window = LabelWindow(session, Fetcher(session))
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: len(window.pairs) == 4, timeout=5000)
    press(qtbot, window, Qt.Key.Key_Left)
    qtbot.waitUntil(lambda: "A pair was dropped" in window.panel.status.text(), timeout=5000)
    qtbot.waitUntil(lambda: [pair.lease.query_id for pair in window.pairs] == [2, 3, 4, 6], timeout=5000)
    window.close()


def test_files_that_cannot_be_read_are_reported_and_looked_at_again(window, run, qtbot, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(window._session, "progress", lambda: 1 / 0)
        qtbot.waitUntil(lambda: "cannot be read" in window.panel.status.text(), timeout=3000)
    qtbot.waitUntil(lambda: window.panel.status.text() == "Which is better?", timeout=8000)


# -- a long instruction ------------------------------------------------------------------------------------------------


def test_a_long_instruction_is_scrolled_and_leaves_the_clips_their_room(tmp_path, qtbot):
    sizes = []
    for name, text in (("short", "Prefer <b>this</b>."), ("long", "Prefer <b>this</b>. " + "Or that, & more. " * 200)):
        made, store = make_run(tmp_path / name, instruction=text)
        session = Session(made.root, "ann")
        window = LabelWindow(session, Fetcher(session))
        qtbot.addWidget(window)
        window.show()
        window.resize(640, 600)
        qtbot.waitUntil(lambda opened=window: len(opened.pairs) >= 2, timeout=5000)
        qtbot.wait(100)
        shown = window.instruction
        assert shown.label.text().replace("\u200b", "") == text
        assert shown.label.heightForWidth(shown.viewport().width()) <= shown.label.height()  # none of it is cut
        assert (shown.verticalScrollBar().maximum() > 0) is (name == "long")
        if name == "long":
            qtbot.keyClick(window, Qt.Key.Key_PageDown)
            assert shown.verticalScrollBar().value() > 0
            qtbot.keyClick(window, Qt.Key.Key_PageUp)
            assert shown.verticalScrollBar().value() == 0
        sizes.append(window.clips.views[0].picture().width())
        window.close()
        store.close()
    assert sizes[1] > 0.5 * sizes[0]
