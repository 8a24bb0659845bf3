"""Undone, repeated and flagged answers are exported with the labels, and undone answers never return."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from labelled import FOR_REPEATS as LABELS
from labelled import People, answer_late, flag, labels_of, people, query, told
from runs import content, prefrl

from prefrl.experience.clips import ClipFolder
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.label_history import Flag, read_history
from prefrl.feedback.quality import report
from prefrl.feedback.terms import Answer
from prefrl.feedback.transfer import import_archive
from prefrl.runs.directory import RunDirectory


def all_told(run: RunDirectory) -> list[tuple[Any, ...]]:
    """What stands, in an order that does not depend on how it came."""
    clips = ClipFolder(run.clips)
    return sorted(map(repr, ([*map(clips.digest, one.segments), told(one)] for one in labels_of(run))))


def test_an_answer_that_was_undone_after_the_export_does_not_come_again(ours: People, tmp_path: Path) -> None:
    early = ours.export(tmp_path / "early.zip")
    assert ours.queue.take_back("viewer", "Ann") is not None
    before, whole = labels_of(ours.run), content(ours.run.root)
    assert import_archive(early, ours.run.root) == (0, 0)
    assert labels_of(ours.run) == before
    assert len(before) == LABELS - 1
    assert content(ours.run.root) == whole


def test_an_answer_that_was_given_again_comes_with_the_one_before_it(
    ours: People, theirs: People, tmp_path: Path
) -> None:
    early = ours.export(tmp_path / "early.zip")
    taken = ours.queue.take_back("viewer", "Ann")
    assert taken is not None
    assert ours.queue.answer(Answer(taken.query_id, Judgement.EQUAL, "human", 950, "Ann", 4.0))
    late = ours.export(tmp_path / "late.zip")
    archive = read_archive(late)
    (back,) = archive.history.taken_back
    assert (back.labeller, back.value) == ("Ann", taken.value)
    assert back.undone_at >= back.created_at
    assert len(archive.labels) == LABELS
    assert import_archive(late, theirs.run.root) == (LABELS, 0)
    assert import_archive(early, theirs.run.root) == (0, 0)
    assert all_told(theirs.run) == all_told(ours.run)
    assert read_history(theirs.store).taken_back[0].undone_at == back.undone_at


def test_a_run_that_has_it_takes_it_back_too(ours: People, theirs: People, tmp_path: Path) -> None:
    assert import_archive(ours.export(tmp_path / "early.zip"), theirs.run.root) == (LABELS, 0)
    ours.queue.take_back("viewer", "Ann")
    late = ours.export(tmp_path / "late.zip")
    done = prefrl("labels", "import", late, "--into", theirs.run.root)
    assert done.out == f"{theirs.run.root}: 0 labels added, 1 taken back\n"
    assert all_told(theirs.run) == all_told(ours.run)
    assert import_archive(late, theirs.run.root) == (0, 0)


def test_what_was_undone_elsewhere_is_asked_of_nobody(ours: People, theirs: People, tmp_path: Path) -> None:
    ours.queue.take_back("viewer", "Ann")
    import_archive(ours.export(tmp_path / "labels.zip"), theirs.run.root)
    assert theirs.store.counts()["pending"] == 0
    assert theirs.store.pending() == []
    assert theirs.queue.to_render() == []
    assert theirs.queue.lease("viewer", 4) == []
    assert theirs.store.counts()["answered"] == LABELS - 1


@pytest.mark.parametrize("order", [*itertools.permutations(["early", "middle", "late"])], ids="-".join)
def test_it_does_not_matter_which_file_comes_first(order: tuple[str, ...], theirs: People, tmp_path: Path) -> None:
    ours = people(tmp_path / "ours")
    files = {"early": ours.export(tmp_path / "early.zip")}
    ours.queue.take_back("viewer", "Ann")
    ours.queue.withdraw(30, "the left clip is broken", "Ann")
    ours.ask_again("Bjørn")
    files["middle"] = ours.export(tmp_path / "middle.zip")
    taken = ours.queue.take_back("viewer", "Bjørn")  # the repeat
    assert taken is not None
    ours.queue.answer(Answer(taken.query_id, Judgement.RIGHT, "human", 990, "Bjørn", 1.5))
    files["late"] = ours.export(tmp_path / "late.zip")
    for name in order:
        import_archive(files[name], theirs.run.root)
    assert all_told(theirs.run) == all_told(ours.run)
    for name in order:
        assert import_archive(files[name], theirs.run.root) == (0, 0)
    ours.store.close()


def figures(run: RunDirectory) -> dict[str, Any]:
    """All that is reported of labels but for where they are and their numbers there."""
    return {name: value for name, value in report(run.root).items() if name not in {"run", "hasty_answers"}}


def test_the_quality_of_labels_is_the_same_wherever_they_are(ours: People, theirs: People, tmp_path: Path) -> None:
    for labeller, judgement in [("Ann", Judgement.LEFT), ("Bjørn", Judgement.RIGHT), ("Ann", Judgement.EQUAL)]:
        ours.ask_again(labeller, judgement)
    assert figures(ours.run)["all"]["repeats"] >= 2
    file = ours.export(tmp_path / "labels.zip")
    assert len(read_archive(file).history.repeats) == 3
    assert import_archive(file, theirs.run.root) == (LABELS, 0)
    assert figures(theirs.run) == figures(ours.run)
    assert theirs.store.counts()["answered"] == LABELS
    assert len(theirs.store.labels("comparison")) == LABELS  # repeats train nothing
    before = content(theirs.run.root)
    assert import_archive(file, theirs.run.root) == (0, 0)
    assert content(theirs.run.root) == before
    again = theirs.export(tmp_path / "again.zip")
    assert import_archive(again, ours.run.root) == (0, 0)
    assert figures(ours.run)["all"]["repeats"] >= 2


def test_repeats_come_to_labels_that_are_there_already(ours: People, theirs: People, tmp_path: Path) -> None:
    import_archive(ours.export(tmp_path / "early.zip"), theirs.run.root)
    ours.ask_again("Ann")
    import_archive(ours.export(tmp_path / "late.zip"), theirs.run.root)
    assert figures(theirs.run) == figures(ours.run)


def test_a_pair_is_repeated_once(ours: People, theirs: People, tmp_path: Path) -> None:
    import_archive(ours.export(tmp_path / "early.zip"), theirs.run.root)
    ours.ask_again("Ann")
    (repeat,) = read_history(ours.store).repeats
    twin = next(label for label in labels_of(ours.run) if label.id == repeat.repeats)
    (there,) = (label for label in labels_of(theirs.run) if told(label) == told(twin))
    (asked,) = query(theirs.run, f"SELECT query_id FROM answers WHERE id = {there.id}")[0]
    with theirs.store.database.write() as connection:  # they have repeated it too
        connection.exec_driver_sql(
            f"INSERT INTO queries SELECT NULL, kind, -1, id, agent_step, 1, created_at FROM queries WHERE id = {asked}"
        )
        connection.exec_driver_sql(
            "INSERT INTO query_segments SELECT (SELECT max(id) FROM queries), 1 - place, segment_id "
            f"FROM query_segments WHERE query_id = {asked}"
        )
        connection.exec_driver_sql(f"INSERT INTO repeats SELECT max(id), {asked} FROM queries")
    assert import_archive(ours.export(tmp_path / "late.zip"), theirs.run.root) == (0, 0)
    assert theirs.store.counts()["answered"] == LABELS  # nor has it become a label


def test_a_flag_goes_with_the_labels(ours: People, theirs: People, tmp_path: Path) -> None:
    flag(ours)
    file = ours.export(tmp_path / "labels.zip")
    (flagged,) = read_archive(file).history.flags
    assert flagged == Flag("comparison", (0, 5), "a clip is broken", "Ann", 777, flagged.created_at)
    import_archive(file, theirs.run.root)
    assert theirs.queue.problems() == ["Ann says: a clip is broken"]
    assert theirs.store.counts()["pending"] == 0
    import_archive(file, theirs.run.root)
    assert theirs.queue.problems() == ["Ann says: a clip is broken"]
    assert "in addition: 1 flags" in prefrl("labels", "import", file).out


def test_a_flag_that_was_undone_does_not_come_again(ours: People, tmp_path: Path) -> None:
    flag(ours)
    file = ours.export(tmp_path / "labels.zip")
    taken = ours.queue.take_back("viewer", "Ann")
    assert taken is not None
    assert taken.value is None
    import_archive(file, ours.run.root)
    assert ours.queue.problems() == []


def test_a_flagged_pair_whose_clip_is_damaged_stays_behind(ours: People, theirs: People, tmp_path: Path) -> None:
    flag(ours)
    with ours.store.database.write() as connection:
        connection.exec_driver_sql("INSERT INTO segments VALUES (99, 15, 0)")
        connection.exec_driver_sql(  # of which there is no file
            "UPDATE query_segments SET segment_id = 99 WHERE place = 0 AND query_id = (SELECT max(id) FROM queries)"
        )
    file = ours.export(tmp_path / "labels.zip")
    assert read_archive(file).history.flags == ()
    assert import_archive(file, ours.run.root) == (0, 0)  # nor does it keep others out


def test_a_flag_that_was_undone_goes_with_the_labels(ours: People, theirs: People, tmp_path: Path) -> None:
    flag(ours)
    standing = ours.export(tmp_path / "standing.zip")
    ours.queue.take_back("viewer", "Ann")
    file = ours.export(tmp_path / "labels.zip")
    (back,) = read_archive(file).history.flags_taken_back
    assert (back.segments, back.reason, back.labeller, back.agent_step) == ((0, 5), "a clip is broken", "Ann", 777)
    assert back.undone_at
    for _ in range(2):
        import_archive(file, theirs.run.root)
        (again,) = read_archive(theirs.export(tmp_path / f"again{_}.zip")).history.flags_taken_back
        assert again.undone_at == back.undone_at
    import_archive(standing, theirs.run.root)
    assert theirs.queue.problems() == []
    assert theirs.store.counts()["pending"] == 0


def test_a_flag_that_was_undone_elsewhere_is_undone(ours: People, theirs: People, tmp_path: Path) -> None:
    flag(ours)
    import_archive(ours.export(tmp_path / "standing.zip"), theirs.run.root)
    ours.queue.take_back("viewer", "Ann")
    import_archive(ours.export(tmp_path / "labels.zip"), theirs.run.root)
    assert theirs.queue.problems() == []
    assert len(read_history(theirs.store).flags_taken_back) == 1


def test_late_answers_go_with_the_labels(ours: People, theirs: People, tmp_path: Path) -> None:
    answer_late(ours)
    answer_late(ours, "Dag")
    file = ours.export(tmp_path / "labels.zip")
    late = read_archive(file).history.late
    assert [(label.value, label.labeller, label.response_seconds) for label in late] == [
        (Judgement.EQUAL, "Cleo", 4.5),
        (Judgement.EQUAL, "Dag", 4.5),
    ]
    assert "2 late" in prefrl("labels", "import", file).out
    for root in (theirs.run.root, theirs.run.root, ours.run.root):
        import_archive(file, root)
    assert ours.store.late_answers() == theirs.store.late_answers() == 2
    assert all_told(ours.run) == all_told(theirs.run)
    assert theirs.store.counts()["answered"] == LABELS
    again = read_archive(theirs.export(tmp_path / "again.zip")).history.late
    assert [told(label) for label in again] == [told(label) for label in late]


def test_a_late_answer_comes_to_labels_that_are_there_already(ours: People, theirs: People, tmp_path: Path) -> None:
    import_archive(ours.export(tmp_path / "before.zip"), theirs.run.root)
    queries = query(theirs.run, "SELECT count(*) FROM queries")
    answer_late(ours)
    import_archive(ours.export(tmp_path / "labels.zip"), theirs.run.root)
    assert theirs.store.late_answers() == 1
    assert query(theirs.run, "SELECT count(*) FROM queries") == queries  # it is about a pair that is there


def test_a_repeat_s_answer_that_was_undone_goes_with_the_labels(ours: People, tmp_path: Path) -> None:
    ours.ask_again("Ann")
    ours.queue.take_back("viewer", "Ann")
    (back,) = read_archive(ours.export(tmp_path / "labels.zip")).history.taken_back
    assert (back.labeller, back.agent_step) == ("Ann", 900)
