"""The window with ratings, with marks, and with several kinds in turn."""

import contextlib
import os

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6")

from asking import LENGTH, make_run
from helpers import quick, segments
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel
from test_states import SIZES, check_that_all_fits, place, texts
from viewing import button, press

from clip_viewer.dialogs import show_help
from clip_viewer.fetcher import Fetcher
from clip_viewer.marking import Marking, marked_step
from clip_viewer.session import Session
from clip_viewer.theme import set_theme
from clip_viewer.views import FRAME
from clip_viewer.window import LabelWindow
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.kinds.rating import UNCLEAR
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.terms import Query
from prefrl.rendering.clip_video import write_clip_video

KEY = Qt.Key
POOL = segments(10, rewards=np.zeros(LENGTH))


@contextlib.contextmanager
def opened(tmp_path, qtbot, *kinds, **settings):
    """The window of a run with a query of each of these kinds, and the run's store."""
    run, store = make_run(tmp_path, pairs=0, feedback=",".join(dict.fromkeys(kinds)), **settings)
    clips, queue = ClipFolder(run.clips), LabelQueue(store)
    arity = {"comparison": 2}
    places = np.cumsum([0, *(arity.get(kind, 1) for kind in kinds)])
    queries = [
        Query(kind, tuple(POOL[first:last]), 1, rank, 10)
        for rank, (kind, first, last) in enumerate(zip(kinds, places, places[1:], strict=False))
    ]
    for segment in POOL[: places[-1]]:
        clips.save(segment)
    store.add_queries(queries)
    for number in queue.to_render(100):
        brightness = np.linspace(40, 220, LENGTH, dtype=np.uint8)[:, None, None, None]
        write_clip_video(clips.video(number), np.broadcast_to(brightness, (LENGTH, 24, 24, 3)).copy(), 15)
        queue.rendered(number, LENGTH)
    session = Session(run.root, "ann")
    window = LabelWindow(session, Fetcher(session))
    qtbot.addWidget(window)
    window.show()
    try:
        qtbot.waitUntil(lambda: len(window.pairs) == min(4, len(kinds)), timeout=10000)
        yield window, store
    finally:
        window.close()
        store.close()


def keep(window, name):
    if folder := os.environ.get("PREFRL_TEST_PICTURES"):
        window.grab().save(f"{folder}/{name}.png")


def values(store):
    return [answer.value for answer in store.standing()]


# -- ratings -----------------------------------------------------------------------------------------------------------


def test_a_rating_is_a_digit_or_a_button_and_can_be_undone(tmp_path, qtbot):
    with opened(tmp_path, qtbot, *4 * ["rating"]) as (window, store):
        assert "How good is it?" in texts(window)
        press(qtbot, window, KEY.Key_7)
        assert "Your last: 7" in texts(window)
        press(qtbot, window, KEY.Key_3)
        assert "Your last: 3" in texts(window)
        press(qtbot, window, KEY.Key_8)  # is no step of this scale
        press(qtbot, window, KEY.Key_Down)
        assert "that clip is dropped and does not count" in texts(window)
        qtbot.wait(300)
        button(window, "Worst").click()
        assert values(store) == [7, 3, UNCLEAR, 1]
        press(qtbot, window, KEY.Key_Backspace)
        qtbot.waitUntil(lambda: bool(window.pairs) and window._returning is None, timeout=5000)
        press(qtbot, window, KEY.Key_2)
        assert values(store) == [7, 3, UNCLEAR, 2]
        qtbot.waitUntil(lambda: "3 of 20 labels" in texts(window) and "1 can't tell" in texts(window), timeout=5000)


@pytest.mark.parametrize("steps", [2, 7, 9])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_ratings_fit_the_window(steps, theme, tmp_path, qtbot):
    set_theme(theme)
    with opened(tmp_path, qtbot, "rating", **{"queries.rating_steps": steps}) as (window, _):
        for size in SIZES:
            window.resize(*size)
            qtbot.wait(120)
            keep(window, f"rating-{steps}-{theme}-{size[0]}")
            check_that_all_fits(window)
            assert (window.width(), window.height()) == size
            picture = window.clips.views[0]
            assert picture.rect().contains(picture.picture().adjusted(-FRAME, -FRAME, FRAME, FRAME))
            assert window.clips.rect().contains(place(picture, window.clips))
        texts_ = [one.text() for one in window._answers._buttons]
        assert texts_ == ["1  Worst", *map(str, range(2, steps)), f"{steps}  Best", "↓  Can't tell"]


# -- marks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "reaction", "looped", "expected"),
    [(9, 4.0, False, 5), (2, 4.0, False, 0), (2, 4.0, True, 13), (9, 0.0, True, 9), (9, 2.6, False, 6)],
)
def test_a_mark_lies_a_reaction_time_earlier(frame, reaction, looped, expected):
    assert marked_step(frame, 15, reaction, looped=looped) == expected


@quick
@given(st.integers(1, 50), st.data(), st.floats(0, 200), st.booleans())
def test_a_mark_lies_in_the_clip(frames, data, reaction, looped):
    assert 0 <= marked_step(data.draw(st.integers(0, frames - 1)), frames, reaction, looped=looped) < frames


def test_marks_are_sorted_replaced_and_undone_in_the_order_in_which_they_were_set():
    marking = Marking()
    assert not marking.undo()
    for step, sign in ((5, 1), (2, -1), (5, -1)):
        marking.add(step, sign)
    assert (marking.value, len(marking)) == ([[2, -1], [5, -1]], 2)
    assert marking.undo()
    assert marking.value == [[2, -1]]
    marking.clear()
    assert (marking.value, len(marking)) == ([], 0)


def at(window, frame):
    """Pause the clip at a frame."""
    window.player.paused = True
    window.player.step(frame - window.player.frame)


def test_marks_are_set_undone_and_sent(tmp_path, qtbot):
    with opened(tmp_path, qtbot, "marks", "marks", "marks") as (window, store):
        assert "Mark what is good" in texts(window)
        for frame, key in ((3, KEY.Key_Up), (7, KEY.Key_Down), (9, KEY.Key_Up)):
            at(window, frame)
            qtbot.keyClick(window, key)
        qtbot.wait(60)
        assert window.clips.timeline.accessibleName() == "2 good and 1 bad marks"
        qtbot.keyClick(window, KEY.Key_Backspace)
        assert window.marking.value == [[3, 1], [7, -1]]
        assert values(store) == []
        press(qtbot, window, KEY.Key_Return)
        assert values(store) == [[[3, 1], [7, -1]]]
        assert len(window.marking) == 0
        assert "Your last: 2 marks" in texts(window)
        press(qtbot, window, KEY.Key_Enter)  # that of the keypad: no marks are an answer too
        assert values(store) == [[[3, 1], [7, -1]], []]
        press(qtbot, window, KEY.Key_Backspace)  # no mark to undo, so it takes the answer back
        assert values(store) == [[[3, 1], [7, -1]]]
        qtbot.waitUntil(lambda: bool(window.pairs) and window._returning is None, timeout=5000)
        assert window.pairs[0].lease.query_id == 2


def test_while_it_plays_a_mark_lies_a_reaction_time_earlier_at_the_speed_of_the_clip(tmp_path, qtbot):
    with opened(tmp_path, qtbot, "marks", **{"queries.reaction_seconds": 0.4, "playback_fps": 15}) as (window, _):
        window._clock.stop()
        at(window, 10)
        window.player.paused = False
        window.mark(1)
        window.player.faster(-1)  # to half the speed
        window.mark(-1)
        assert window.marking.value == [[4, 1], [7, -1]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_fit_the_window_and_are_seen(theme, tmp_path, qtbot):
    set_theme(theme)
    with opened(tmp_path, qtbot, "marks") as (window, _):
        for frame, sign in ((0, 1), (5, -1), (6, -1), (14, 1)):
            at(window, frame)
            window.mark(sign)
        at(window, 9)
        for size in SIZES:
            window.resize(*size)
            qtbot.wait(150)
            keep(window, f"marks-{theme}-{size[0]}")
            check_that_all_fits(window)
            assert (window.width(), window.height()) == size
            for each in (window.clips.timeline, window.clips.views[0]):
                assert window.clips.rect().contains(place(each, window.clips))
            bar = window.clips.timeline.grab().toImage()
            seen = [
                bar.pixelColor(int((step + 0.5) * bar.width() / LENGTH), bar.height() // 4) for step in range(LENGTH)
            ]
            below = [
                bar.pixelColor(int((s + 0.5) * bar.width() / LENGTH), 3 * bar.height() // 4) for s in range(LENGTH)
            ]
            assert [step for step, colour in enumerate(seen) if colour.green() > colour.red() + 40] == [0, 14]
            assert [step for step, colour in enumerate(below) if colour.red() > colour.green() + 40] == [5, 6]


# -- several kinds -----------------------------------------------------------------------------------------------------


def test_kinds_follow_each_other(tmp_path, qtbot):
    with opened(tmp_path, qtbot, "comparison", "rating", "marks", "comparison") as (window, store):
        for question, key in (
            ("Which is better?", KEY.Key_Left),
            ("How good", KEY.Key_4),
            ("Mark what", KEY.Key_Return),
        ):
            assert question in texts(window)
            press(qtbot, window, key)
        assert [str(value) for value in values(store)] == ["left", "4", "[]"]
        assert "Which is better?" in texts(window)
        assert window.clips.timeline is None


@pytest.mark.parametrize("kind", ["rating", "marks"])
def test_the_help_lists_the_keys(kind, tmp_path, qtbot):
    with opened(tmp_path, qtbot, kind) as (window, _):
        show_help(window, window.keys)
        box = next(one for one in window.findChildren(QLabel) if "<table>" in one.text())
        means = {"rating": ["1 of 7, the worst", "can't tell"], "marks": ["what you see is bad", "store the marks"]}
        assert [word for word in means[kind] if word not in box.text()] == []
        qtbot.wait(50)
        keep(box.window(), f"help-{kind}")
