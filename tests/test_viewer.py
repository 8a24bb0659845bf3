"""The viewer's window, offscreen."""

import contextlib
import errno
import os
import threading

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6")

from asking import LENGTH, make_run
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QApplication, QMessageBox
from runs import SUMMARY

from clip_viewer import fetcher as fetcher_module
from clip_viewer import guard
from clip_viewer.buttons import ActionButton
from clip_viewer.dialogs import NO, YES
from clip_viewer.fetcher import Fetcher, images
from clip_viewer.keys import ANSWERS, BY_KEY, HELP, OTHERS
from clip_viewer.session import Session
from clip_viewer.theme import set_theme
from clip_viewer.views import shown_scale
from clip_viewer.window import LabelWindow
from prefrl.clips import ClipFolder
from prefrl.errors import PrefrlError
from prefrl.feedback.leases import LabelQueue
from prefrl.overview import run_status, status_lines
from prefrl.progress import Phase, Progress
from prefrl.types import Answer, Judgement


def press(qtbot, window, key, modifiers=Qt.KeyboardModifier.NoModifier):
    """Press a key as a person would who has looked at the pair."""
    qtbot.wait(int(1000 * guard.SECONDS) + 20)
    qtbot.keyClick(window, key, modifiers)


def button(window, name):
    return next(one for one in window.findChildren(ActionButton) if one.action.name == name)


@pytest.fixture
def window(session, qtbot):
    opened = LabelWindow(session, Fetcher(session))
    qtbot.addWidget(opened)
    opened.show()
    qtbot.waitUntil(lambda: len(opened.pairs) >= 2, timeout=5000)
    yield opened
    opened.close()


def colour(view):
    picture = view.grab().toImage()
    return picture.pixelColor(picture.width() // 2, picture.height() // 2).red()


def test_images_hold_the_frames_pixels():
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    shown = images(frames)
    pixel = shown[1].pixelColor(3, 2)
    assert (pixel.red(), pixel.green(), pixel.blue()) == tuple(frames[1, 2, 3])


@pytest.mark.parametrize(
    ("key", "judgement"),
    [
        (Qt.Key.Key_Left, "left"),
        (Qt.Key.Key_Right, "right"),
        (Qt.Key.Key_Up, "equal"),
        (Qt.Key.Key_Down, "incomparable"),
    ],
)
def test_keys_are_answers_to_what_is_on_the_screen(window, run, qtbot, key, judgement):
    lease = window.pairs[0].lease
    assert (colour(window.clips.left), colour(window.clips.right)) == (lease.left, lease.right)
    press(qtbot, window, key)
    assert run[1].counts()[judgement] == 1
    assert window.pairs[0].lease.query_id != lease.query_id
    assert colour(window.clips.left) == window.pairs[0].lease.left


def test_buttons_answer_too_and_have_names(window, run, qtbot):
    qtbot.wait(300)
    qtbot.mouseClick(button(window, "Equal"), Qt.MouseButton.LeftButton)
    press(qtbot, window, Qt.Key.Key_Left)  # keys still answer
    assert (run[1].counts()["equal"], run[1].counts()["left"]) == (1, 1)


def test_backspace_brings_the_last_pair_back(window, run, qtbot):
    first = window.pairs[0].lease.query_id
    press(qtbot, window, Qt.Key.Key_Left)
    press(qtbot, window, Qt.Key.Key_Backspace)
    qtbot.waitUntil(lambda: window.pairs and window.pairs[0].lease.query_id == first, timeout=5000)
    assert run[1].counts()["answered"] == 0
    press(qtbot, window, Qt.Key.Key_Right)
    assert run[1].counts()["right"] == 1


def test_until_the_pair_that_was_taken_back_is_in_view_keys_answer_nothing(window, run, qtbot):
    first = window.pairs[0].lease.query_id
    press(qtbot, window, Qt.Key.Key_Left)
    second = window.pairs[0].lease.query_id
    press(qtbot, window, Qt.Key.Key_Backspace)
    qtbot.keyClick(window, Qt.Key.Key_Left)  # at once: nothing is in view
    assert run[1].counts()["answered"] == 0
    qtbot.waitUntil(lambda: window.pairs[0].lease.query_id == first, timeout=5000)
    press(qtbot, window, Qt.Key.Key_Right)
    assert window.pairs[0].lease.query_id == second
    assert (run[1].counts()["left"], run[1].counts()["right"]) == (0, 1)


def test_a_pair_that_does_not_come_back_is_not_waited_for(window, qtbot, monkeypatch):
    monkeypatch.setattr("clip_viewer.window._RETURN_SECONDS", 0.3)
    press(qtbot, window, Qt.Key.Key_Left)
    monkeypatch.setattr(window._session, "load", lambda lease: None)
    press(qtbot, window, Qt.Key.Key_Backspace)
    assert window._in_view is None
    qtbot.waitUntil(lambda: window._in_view is not None, timeout=5000)


def test_light_and_dark(window, qtbot):
    def lightness():
        picture = window.grab().toImage()
        return picture.pixelColor(2, picture.height() - 2).lightness()

    set_theme("light")
    light = lightness()
    press(qtbot, window, Qt.Key.Key_D)
    qtbot.waitUntil(lambda: lightness() < light / 2, timeout=5000)
    assert colour(window.clips.left) == window.pairs[0].lease.left
    press(qtbot, window, Qt.Key.Key_D)
    qtbot.waitUntil(lambda: lightness() == light, timeout=5000)


def test_every_key_has_a_button_and_a_line_of_help(window):
    names = {one.action.name for one in window.findChildren(ActionButton)}
    assert names == {action.name for action in (*ANSWERS, *OTHERS)}
    assert all(action.does in HELP and hasattr(window, action.method) for action in BY_KEY.values())


def test_the_state_is_told(window, run, qtbot):
    qtbot.waitUntil(lambda: window.panel.done.text().startswith("0 of 20 labels"), timeout=5000)
    assert "playing" in window.panel.playing.text()
    press(qtbot, window, Qt.Key.Key_Space)
    press(qtbot, window, Qt.Key.Key_BracketRight)
    assert "paused ×2" in window.panel.playing.text()
    for _ in range(3):
        qtbot.waitUntil(lambda: bool(window.pairs), timeout=5000)
        press(qtbot, window, Qt.Key.Key_Left)
    qtbot.waitUntil(lambda: window.panel.done.text().startswith("3 of 20 labels"), timeout=5000)
    assert "a minute" in window.panel.done.text()


def test_a_broken_clip_is_flagged_and_asked_no_more(window, run, qtbot):
    first = window.pairs[0].lease.query_id
    press(qtbot, window, Qt.Key.Key_X)
    assert "broken" in LabelQueue(run[1]).problems()[0]
    assert all(pair.lease.query_id != first for pair in window.pairs)


def test_all_pairs_are_shown_once_and_then_it_says_why_there_are_none(window, run, qtbot):
    seen = []
    for _ in range(6):
        qtbot.waitUntil(lambda: bool(window.pairs), timeout=5000)
        seen.append(window.pairs[0].lease.query_id)
        press(qtbot, window, Qt.Key.Key_Left)
    assert sorted(seen) == sorted(set(seen)) == list(range(1, 7))
    qtbot.waitUntil(lambda: "resume" in window.clips.message.text(), timeout=5000)
    press(qtbot, window, Qt.Key.Key_Left)  # does nothing
    assert run[1].counts()["answered"] == 6


def test_the_instruction_is_always_in_view(window, run):
    assert window.instruction.isVisible()
    assert window.instruction.label.text() == run[0].config.instruction
    assert "middle" in window.instruction.label.text()


def test_pausing_stops_both_clips(window, qtbot):
    press(qtbot, window, Qt.Key.Key_Space)
    frame = window.player.frame
    qtbot.wait(300)
    assert window.player.frame == frame
    press(qtbot, window, Qt.Key.Key_Period)
    assert window.player.frame == (frame + 1) % LENGTH


def test_the_next_pair_is_there_when_the_key_has_been_handled(tmp_path, qtbot, monkeypatch):
    """Nothing is decoded or waited for in between: the pair is the one that was ready, and clips are read elsewhere."""
    made, store = make_run(tmp_path, pairs=8)
    session = Session(made.root, "ben")
    threads = []
    opened = fetcher_module.images
    monkeypatch.setattr(
        fetcher_module, "images", lambda frames: threads.append(threading.current_thread()) or opened(frames)
    )
    window = LabelWindow(session, Fetcher(session))
    qtbot.addWidget(window)
    window.show()
    for left in range(8, 1, -1):
        qtbot.waitUntil(lambda: len(window.pairs) >= 2, timeout=5000)
        following = window.pairs[1]
        press(qtbot, window, Qt.Key.Key_Left)
        assert window.pairs[0] is following
        assert store.counts()["pending"] == left - 1
    window.close()
    store.close()
    assert threads
    assert threading.main_thread() not in threads


def test_a_pair_on_its_way_while_it_is_answered_does_not_come_again(window, qtbot):
    shown = window.pairs[0]
    press(qtbot, window, Qt.Key.Key_Left)
    window._on_pair(shown)
    assert all(pair.lease.query_id != shown.lease.query_id for pair in window.pairs)


def test_an_answer_that_cannot_be_stored_leaves_the_pair(window, run, qtbot, monkeypatch):
    def full(*_):
        raise PrefrlError("the disk is full")

    first = window.pairs[0].lease.query_id
    with monkeypatch.context() as patch:
        patch.setattr(window._session, "answer", full)
        press(qtbot, window, Qt.Key.Key_Left)
    assert window.pairs[0].lease.query_id == first
    assert "disk is full" in window.panel.status.text()
    press(qtbot, window, Qt.Key.Key_Left)
    assert run[1].counts()["left"] == 1


def test_closing_gives_the_pairs_back(window, run):
    held = {pair.lease.query_id for pair in window.pairs}
    window.close()
    store = run[1]
    assert held <= {lease.query_id for lease in LabelQueue(store).lease("other", 6)}


def test_status_says_that_nothing_more_is_asked(run):
    run[1].closed = True
    assert any("nothing more is asked" in line and "--labels" in line for line in status_lines(run_status(run[0].root)))
    run[1].closed = False
    assert not any("nothing more" in line for line in status_lines(run_status(run[0].root)))


def test_status_says_what_can_be_labelled_and_what_was_withdrawn(run):
    LabelQueue(run[1]).withdraw(1, "bad clip")
    lines = status_lines(run_status(run[0].root))
    assert any(line.startswith("pairs: 5 ready") for line in lines)
    assert "withdrawn: bad clip" in lines
    assert any("prefrl label" in line for line in lines)


@pytest.mark.parametrize("sure", [True, False])
def test_a_person_can_finish_with_the_labels_there_are(window, run, qtbot, monkeypatch, sure):
    press(qtbot, window, Qt.Key.Key_Left)
    choice = YES if sure else NO
    monkeypatch.setattr(QMessageBox, "exec", lambda box: next(b for b in box.buttons() if b.text() == choice).click())
    shown = window.pairs[0].lease.query_id
    press(qtbot, window, Qt.Key.Key_F)
    assert run[1].closed is sure
    if not sure:
        assert window.pairs[0].lease.query_id == shown
        return
    qtbot.waitUntil(lambda: "finished for everyone" in window.clips.message.text(), timeout=5000)
    assert not window.pairs
    assert LabelQueue(run[1]).waiting() == {"ready": 0, "unrendered": 0, "leased": 0}
    run[1].closed = False  # `prefrl resume RUN --labels N`
    qtbot.waitUntil(lambda: bool(window.pairs), timeout=5000)
    assert window.pairs[0].lease.query_id == shown


def test_it_says_that_the_agent_waits_for_people(window, run, qtbot):
    with run[0].lock():
        run[0].write_progress(Progress(Phase.WAITING, step=100))
        qtbot.waitUntil(lambda: "The agent waits" in window.panel.notice.text(), timeout=8000)
        run[0].write_progress(Progress(Phase.TRAINING, step=200))
        qtbot.waitUntil(lambda: "The agent waits" not in window.panel.notice.text(), timeout=8000)


def test_repeats_come_among_the_pairs_with_sides_swapped(tmp_path, qtbot):
    made, store = make_run(tmp_path, pairs=16, **{"queries.repeats": 0.1})
    session = Session(made.root, "ann")
    window = LabelWindow(session, Fetcher(session))
    qtbot.addWidget(window)
    window.show()
    seen = []
    for _ in range(17):
        qtbot.waitUntil(lambda: bool(window.pairs), timeout=5000)
        qtbot.wait(300)
        seen.append(window.pairs[0].lease)
        press(qtbot, window, Qt.Key.Key_Left)
    window.close()
    repeats = [lease for lease in seen if lease.query_id > 16]
    assert len(repeats) == 1
    assert any((lease.right, lease.left) == (repeats[0].left, repeats[0].right) for lease in seen[:-1])
    assert store.counts()["answered"] == 16
    store.close()


@pytest.mark.parametrize(
    ("size", "room", "scale"),
    [((320, 320), (535, 570), 535 / 320), ((480, 480), (535, 570), 1.0), ((480, 480), (300, 400), 300 / 480)],
)
def test_a_clip_is_as_large_as_fits_but_not_blurred_for_little(size, room, scale):
    assert shown_scale(*size, *room) == pytest.approx(scale)


# -- presses that nobody can mean --------------------------------------------------------------------------------------


def answered(run):
    counts = run[1].counts()
    return counts["answered"] + counts["incomparable"]


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
        return [connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in ("comparisons", "withdrawals")]


@pytest.mark.parametrize("over", ["closed", "finished"])
@pytest.mark.parametrize("key", [Qt.Key.Key_Left, Qt.Key.Key_X])
def test_undo_after_the_end_is_refused_and_says_why(window, run, qtbot, over, key):
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


# -- what is said ------------------------------------------------------------------------------------------------------


def test_the_person_who_pressed_x_is_told_what_they_did_and_others_that_somebody_did(window, run, qtbot):
    qtbot.waitUntil(lambda: window._problems is not None, timeout=5000)
    press(qtbot, window, Qt.Key.Key_X)
    assert "You said that a clip is broken" in window.panel.status.text()
    qtbot.wait(1200)
    assert "You said" in window.panel.status.text()
    LabelQueue(run[1]).withdraw(6, "a clip is broken", "b<b>e\x1b[2Jn")
    told = "A pair was dropped: b<b>e\\x1b[2Jn says: a clip is broken"
    qtbot.waitUntil(lambda: window.panel.status.text().replace("\u200b", "") == told, timeout=5000)


def test_answers_that_do_not_move_the_bar_say_why(tmp_path, qtbot):
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


def test_what_finish_does_and_how_to_reverse_it_is_said_and_the_budget_stays(window, run, qtbot, monkeypatch):
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
    assert "finished already" in window.panel.status.text()
    assert len(told) == 1


def test_a_full_disk_is_said_until_an_answer_is_stored(window, run, qtbot, monkeypatch):
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


def test_a_pair_that_somebody_else_answered_is_said(window, run, qtbot):
    lease = window.pairs[0].lease
    run[1].add_answers([Answer(lease.query_id, Judgement.RIGHT, "human", 10, "ben", 1.0)])
    press(qtbot, window, Qt.Key.Key_Left)
    assert "Somebody else had answered" in window.panel.status.text()
    assert (run[1].counts()["left"], run[1].counts()["right"]) == (0, 1)
    assert window.pairs[0].lease.query_id != lease.query_id


def test_a_damaged_clip_is_said_and_the_next_pair_comes(run, qtbot):
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


def test_files_that_cannot_be_read_are_said_and_looked_at_again(window, run, qtbot, monkeypatch):
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
        sizes.append(window.clips.left.picture().width())
        window.close()
        store.close()
    assert sizes[1] > 0.5 * sizes[0]
