"""The viewer's session model, without a window."""

import os

import pytest
from asking import POOL, make_run
from runs import SUMMARY, prefrl, refused

from clip_viewer import session as session_module
from clip_viewer.pace import Pace
from clip_viewer.player import SPEEDS, Player
from clip_viewer.session import Session
from clip_viewer.situation import State
from prefrl.config import replace
from prefrl.errors import UsageError
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.recipes import resolve
from prefrl.runs.directory import RunDirectory
from prefrl.safety.store_schema import STORE_VERSION

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

# -- clocks -----------------------------------------------------------------------------------------------------------


def test_frames_follow_the_clock_and_start_again():
    player = Player(fps=10)
    player.load(5)
    assert [player.advance(0.1) for _ in range(6)] == [1, 2, 3, 4, 0, 1]


def test_stepping_pauses_and_goes_round():
    player = Player(fps=10)
    player.load(5)
    assert player.step(-1) == 4
    assert player.advance(10.0) == 4
    assert player.step(1) == 0


def test_speed_has_ends():
    player = Player(fps=10)
    assert [player.faster(1) for _ in range(4)] == [2.0, 4.0, 4.0, 4.0]
    assert [player.faster(-1) for _ in range(6)][-1] == SPEEDS[0]


def test_a_pause_is_no_part_of_the_pace():
    pace = Pace()
    assert pace.per_minute is None
    for at in (0.0, 4.0, 8.0, 4000.0, 4004.0):
        pace.answered(at)
    assert pace.per_minute == pytest.approx(15)
    assert pace.seconds_left(30) == pytest.approx(120)


# -- the session ------------------------------------------------------------------------------------------------------


def test_clips_are_on_the_side_that_is_stored(session):
    for lease in session.leases():
        pair = session.load(lease)
        assert (pair.frames[0][0, 0, 0, 0], pair.frames[1][0, 0, 0, 0]) == (lease.segments[0], lease.segments[1])


def test_an_answer_is_stored_with_who_gave_it_and_how_long_they_took(session, run):
    lease = session.leases()[0]
    assert session.answer(lease, Judgement.RIGHT, 2.5)
    with run[1].database.read() as connection:
        row = connection.exec_driver_sql("SELECT * FROM labels").mappings().one()
    assert (row["judgement"], row["teacher"], row["labeller"]) == ("right", "human", "ann")
    assert (row["response_seconds"], row["shown_left"]) == (2.5, lease.segments[0])


def test_undo_goes_back_ten_answers_also_after_a_restart(run):
    first = Session(run[0].root, "ann")
    said = []
    for _ in range(6):
        lease = first.leases(1)[0]
        first.answer(lease, Judgement.LEFT, 1.0)
        said.append(lease.query_id)
    first.close()
    second = Session(run[0].root, "ann")
    assert [second.undo().query_id for _ in range(6)] == said[::-1]
    assert second.undo() is None
    assert run[1].counts()["answered"] == 0
    assert [lease.query_id for lease in second.leases(6)] == said
    second.close()


def test_only_one_s_own_answers_are_undone(run):
    ann, ben = Session(run[0].root, "ann"), Session(run[0].root, "ben")
    ann.answer(ann.leases(1)[0], Judgement.LEFT, 1.0)
    assert ben.undo() is None
    ann.close()
    ben.close()


def test_the_same_name_twice_is_refused(run, session):
    with pytest.raises(UsageError, match="another window"):
        Session(run[0].root, "ann")


def test_a_run_that_asks_nobody_is_refused(tmp_path):
    RunDirectory.create(tmp_path / "other", resolve("moving-dot"))
    with pytest.raises(UsageError, match="--teacher human"):
        Session(tmp_path / "other", "ann")


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a run"):
        Session(tmp_path / "none", "ann")


def test_a_finished_run_is_refused_with_the_command_that_extends_it(run):
    run[0].summary.write_text(SUMMARY)
    with pytest.raises(UsageError, match=r"resume .* --labels"):
        Session(run[0].root, "ann")


def test_what_cannot_be_labelled_is_one_line_and_nothing_is_touched(tmp_path, run):
    pytest.importorskip("PySide6")
    made, store = run
    RunDirectory.create(tmp_path / "other", resolve("moving-dot"))
    assert "--teacher human" in refused(prefrl("label", tmp_path / "other"), 2)
    assert "not a run" in refused(prefrl("label", tmp_path / "none"), 2)
    with made.lock("labeller-ann"):
        assert "another window" in refused(prefrl("label", made.root, "--labeller", "ann"), 2)
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE meta SET value = 99 WHERE key = 'version'")
    assert "newer version" in refused(prefrl("label", made.root), 2)
    with store.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE meta SET value = {STORE_VERSION} WHERE key = 'version'")
    made.summary.write_text(SUMMARY)
    assert "--labels" in refused(prefrl("label", made.root), 2)
    assert store.counts()["pending"] == 6


def test_the_time_that_a_state_has_lasted_is_told(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(session_module.time, "monotonic", lambda: now[0])
    made = RunDirectory.create(tmp_path / "run", resolve("moving-dot", teacher="human"))
    session = Session(made.root, "ann")
    with made.lock():
        for since_start in (0.0, 40.0, 75.0):
            now[0] = 1000.0 + since_start
            told = session.progress()
            assert (told.situation.state, told.seconds) == (State.STARTING, since_start)
    now[0] += 5
    told = session.progress()
    assert (told.situation.state, told.seconds) == (State.HALTED, 0.0)
    now[0] += 7
    assert session.progress().seconds == 7.0
    session.close()


def test_starting_before_the_run_has_anything_works(tmp_path):
    made = RunDirectory.create(tmp_path / "run", resolve("moving-dot", teacher="human"))
    session = Session(made.root, "ann")
    assert session.leases() == []
    assert session.progress().situation.state is State.HALTED  # nobody is at work on it
    with made.lock():
        assert session.progress().situation.state is State.STARTING
    session.close()


def test_a_truncated_clip_is_withdrawn_and_reported(session):
    lease = session.leases(1)[0]
    path = session.clips.video(lease.segments[0])
    path.write_bytes(path.read_bytes()[:100])
    assert session.load(lease) is None
    assert any("clip" in problem.reason for problem in session.progress().problems)
    assert lease.query_id not in [other.query_id for other in session.leases()]


def test_a_pair_that_the_learner_could_not_read_is_not_asked_about(session):
    lease = session.leases(1)[0]
    path = session.clips.file(lease.segments[1])
    path.write_bytes(path.read_bytes()[:100])
    assert session.load(lease) is None
    assert any(path.name in problem.reason for problem in session.progress().problems)


def test_a_viewer_that_was_killed_leaves_its_pairs_to_the_next_of_the_same_person(run):
    killed, other = Session(run[0].root, "ann"), Session(run[0].root, "ben")
    had = [lease.query_id for lease in killed.leases(4)]
    assert len(other.leases(4)) == 2
    killed._lock.release()  # as the system does
    again = Session(run[0].root, "ann")
    assert [lease.query_id for lease in again.leases(4)] == had
    again.close()
    other.close()


def test_pairs_in_other_hands_are_the_reason_why_there_is_none(session, run):
    ben = Session(run[0].root, "ben")
    assert len(ben.leases(6)) == 6
    assert session.leases() == []
    assert session.progress().situation.state is State.OTHERS
    assert "(6)" in session.progress().situation.explanation
    assert ben.progress().situation.state is State.PAIR
    ben.close()


def test_clips_without_a_renderer_are_not_reported_as_being_rendered(tmp_path):
    made, store = make_run(tmp_path, pairs=1)
    store.add_queries([pair_query(2, 0, POOL[10], POOL[11], 20)])
    session = Session(made.root, "ann")
    session.answer(session.leases()[0], Judgement.LEFT, 1.0)
    assert session.leases() == []
    assert "prefrl resume" in session.progress().situation.explanation
    session.close()
    store.close()


def test_a_run_that_ended_in_the_meantime_is_reported(session, run):
    session.leases()
    session.finish()
    assert session.progress().situation.state is State.CLOSED
    run[0].summary.write_text(SUMMARY)
    assert session.progress().situation.state is State.FINISHED


def test_why_there_is_nothing_to_show(session, run):
    assert session.progress().situation.state is State.PAIR
    for lease in session.leases(6):
        session.answer(lease, Judgement.LEFT, 1.0)
    assert session.leases() == []
    assert session.progress().situation.state is State.HALTED  # nobody is at work on it
    assert "prefrl resume" in session.progress().situation.explanation


# -- names and budgets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 300, "300 characters"), ("", "empty"), ("  ", "empty"), ("a\nb", "cannot be shown"), ("\x1b[2J", "shown")],
)
def test_a_name_that_cannot_be_used_is_one_line(run, name, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        Session(run[0].root, name)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["a" * 64, "\N{GRINNING FACE}" * 64, "\N{HIRAGANA LETTER A}" * 64, "../../x", "a/b c"])
def test_a_name_of_any_script_labels_and_is_refused_a_second_time(run, name):
    opened = Session(run[0].root, name)
    opened.answer(opened.leases(1)[0], Judgement.LEFT, 1.0)
    assert opened.last()[:2] == (1, Judgement.LEFT)
    with pytest.raises(UsageError, match="another window"):
        Session(run[0].root, name)
    opened.close()
    assert run[1].counts()["left"] == 1


def test_a_long_name_on_the_command_line_is_one_line(run):
    assert "at most 64" in refused(prefrl("label", run[0].root, "--labeller", "x" * 300), 2)


def test_a_budget_that_was_raised_is_seen_by_an_open_viewer(session, run):
    assert session.progress().budget == 20
    RunDirectory(run[0].root, replace(run[0].config, {"queries.labels": 30})).write_config()
    assert session.progress().budget == 30


# -- undo -------------------------------------------------------------------------------------------------------------


def test_what_is_shown_as_last_is_what_undo_takes_back(session):
    assert session.last() is None
    first, second = session.leases(2)
    session.answer(first, Judgement.RIGHT, 1.0)
    assert session.last()[:2] == (first.query_id, Judgement.RIGHT)
    session.flag(second)
    assert session.last()[:2] == (second.query_id, None)
    assert session.undo()[:2] == (second.query_id, None)
    assert session.last()[:2] == (first.query_id, Judgement.RIGHT)
    assert second.query_id in [lease.query_id for lease in session.leases()]


def test_a_finished_run_takes_nothing(session, run):
    first, second = session.leases(2)
    session.answer(first, Judgement.RIGHT, 1.0)
    run[0].summary.write_text(SUMMARY)
    for act in (session.undo, session.finish, lambda: session.flag(second)):
        with pytest.raises(UsageError, match="the run is finished"):
            act()
    with pytest.raises(UsageError, match="the run is finished"):
        session.answer(second, Judgement.LEFT, 1.0)
    assert session.leases() == []
    assert (session.last(), run[1].counts()["answered"], run[1].closed) == (None, 1, False)


def test_finishing_before_there_is_anything_is_refused(tmp_path):
    made = RunDirectory.create(tmp_path / "run", resolve("moving-dot", teacher="human"))
    session = Session(made.root, "ann")
    with pytest.raises(UsageError, match="no labels yet"):
        session.finish()
    session.close()
