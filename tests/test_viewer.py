"""The viewer's window, offscreen."""

import os
import threading

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6")

from asking import LENGTH, make_run
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox
from viewing import button, press

from clip_viewer import fetcher as fetcher_module
from clip_viewer.buttons import ActionButton
from clip_viewer.dialogs import NO, YES
from clip_viewer.fetcher import Fetcher, images
from clip_viewer.keys import OTHERS
from clip_viewer.session import Session
from clip_viewer.theme import set_theme
from clip_viewer.views import shown_scale
from clip_viewer.window import LabelWindow
from prefrl.commands.overview import run_status, status_lines
from prefrl.errors import PrefrlError
from prefrl.feedback.leases import LabelQueue
from prefrl.runs.progress import Phase, Progress


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
    assert (colour(window.clips.views[0]), colour(window.clips.views[1])) == (lease.segments[0], lease.segments[1])
    press(qtbot, window, key)
    assert run[1].counts()[judgement] == 1
    assert window.pairs[0].lease.query_id != lease.query_id
    assert colour(window.clips.views[0]) == window.pairs[0].lease.segments[0]


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


def test_until_the_pair_that_was_undone_is_in_view_keys_answer_nothing(window, run, qtbot):
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
    assert colour(window.clips.views[0]) == window.pairs[0].lease.segments[0]
    press(qtbot, window, Qt.Key.Key_D)
    qtbot.waitUntil(lambda: lightness() == light, timeout=5000)


def test_every_key_has_a_button_and_a_line_of_help(window):
    names = {one.action.name for one in window.findChildren(ActionButton)}
    assert names == {action.name for action in (*window.keys.answers, *OTHERS)}
    assert all(
        action.does in window.keys.help and hasattr(window, action.method) for action in window.keys.by_key.values()
    )


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


def test_a_broken_clip_is_flagged_and_not_asked_again(window, run, qtbot):
    first = window.pairs[0].lease.query_id
    press(qtbot, window, Qt.Key.Key_X)
    assert "broken" in LabelQueue(run[1]).problems()[0]
    assert all(pair.lease.query_id != first for pair in window.pairs)


def test_all_pairs_are_shown_once_and_then_the_reason_for_waiting(window, run, qtbot):
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
    assert any(
        "no more labels are asked for" in line and "--labels" in line for line in status_lines(run_status(run[0].root))
    )
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
    assert any(
        (lease.segments[1], lease.segments[0]) == (repeats[0].segments[0], repeats[0].segments[1])
        for lease in seen[:-1]
    )
    assert store.counts()["answered"] == 16
    store.close()


@pytest.mark.parametrize(
    ("size", "room", "scale"),
    [((320, 320), (535, 570), 535 / 320), ((480, 480), (535, 570), 1.0), ((480, 480), (300, 400), 300 / 480)],
)
def test_a_clip_is_as_large_as_fits_but_not_blurred_for_little(size, room, scale):
    assert shown_scale(*size, *room) == pytest.approx(scale)
