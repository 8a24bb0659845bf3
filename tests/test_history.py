"""Undone, repeated and flagged answers are exported with the labels, and undone answers never return."""

from __future__ import annotations

import csv
import itertools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from labelled import add_labels, labels_of, make_run, query, told
from runs import content, prefrl, refused
from test_admission import forged

from prefrl.experience.clips import ClipFolder
from prefrl.feedback.archive import segments_of
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.label_history import Flag, History, read_history
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.quality import report
from prefrl.feedback.repeats import Repeats
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.feedback.transfer import export_labels, import_archive
from prefrl.runs.directory import RunDirectory

LABELS = 36
"""Ann and Bjørn gave twelve each: enough to be asked again."""


class People(NamedTuple):
    """A run that people label."""

    run: RunDirectory
    store: LabelStore
    queue: LabelQueue

    def export(self, path: Path) -> Path:
        export_labels(self.run.root, path)
        return path

    def ask_again(self, labeller: str, judgement: Judgement = Judgement.LEFT) -> int:
        """A repeat, answered."""
        number = Repeats(self.store, self.queue, 1.0).ask(labeller, labeller)
        assert number is not None
        assert self.queue.answer(Answer(number, judgement, "human", 900, labeller, 2.5))
        return number


def people(root: Path, labels: int = LABELS) -> People:
    run = make_run(root, teacher="human")
    add_labels(run, labels) if labels else LabelStore(run.labels, create=True).close()
    store = LabelStore(run.labels)
    return People(run, store, LabelQueue(store))


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[People]:
    made = people(tmp_path / "ours")
    yield made
    made.store.close()


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[People]:
    made = people(tmp_path / "theirs", labels=0)
    yield made
    made.store.close()


def all_told(run: RunDirectory) -> list[tuple[Any, ...]]:
    """What stands, in an order that does not depend on how it came."""
    clips = ClipFolder(run.clips)
    return sorted(map(repr, ([*map(clips.digest, one.segments), told(one)] for one in labels_of(run))))


# -- what was taken back ----------------------------------------------------------------------------------------------


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


# -- what was asked again ---------------------------------------------------------------------------------------------


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
    assert len(theirs.store.comparisons()) == LABELS  # repeats train nothing
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


# -- what was flagged -------------------------------------------------------------------------------------------------


def flag(ours: People) -> int:
    """Ann calls a pair broken that nobody has answered."""
    number = query(ours.run, "SELECT max(id) FROM queries")[0][0]
    with ours.store.database.write() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO queries VALUES ({number + 1}, 'comparison', 9, 0, 777, 1, '2026-01-01T00:00:00+00:00')"
        )
        connection.exec_driver_sql(f"INSERT INTO query_segments VALUES ({number + 1}, 0, 0), ({number + 1}, 1, 5)")
    ours.queue.withdraw(number + 1, "a clip is broken", "Ann")
    return int(number) + 1


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
    assert "beside them: 1 flags" in prefrl("labels", "import", file).out


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


# -- answers that came late -------------------------------------------------------------------------------------------


def answer_late(ours: People, labeller: str = "Cleo") -> None:
    """To a pair that has an answer."""
    assert not ours.queue.answer(Answer(3, Judgement.EQUAL, "human", 901, labeller, 4.5))


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


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(ours: People, tmp_path: Path) -> Path:
    """A file with something of everything."""
    ours.queue.take_back("viewer", "Bjørn")
    ours.ask_again("Ann")
    flagged = flag(ours)
    ours.queue.take_back("viewer", "Ann")
    ours.queue.withdraw(flagged, "both clips are broken", "Ann")
    answer_late(ours)
    return ours.export(tmp_path / "full.zip")


def third(contents: dict[str, Any], members: object = None) -> None:
    """What a file of format 3 would say, which knew comparisons alone."""
    contents |= {"format": 3, "label_format": 1}
    for row in (row for name in ("labels", *History._fields) for row in contents[name]):
        del row["kind"]
        row["left"], row["right"] = row.pop("segments")
        if "value" in row:
            row["judgement"] = row.pop("value")


def test_files_of_the_first_format_are_read(full: Path, theirs: People, tmp_path: Path) -> None:
    def older(contents: dict[str, Any], members: dict[str, bytes]) -> None:
        third(contents)
        contents["format"] = 1
        for name in ("taken_back", "repeats", "flags", "late", "flags_taken_back"):
            del contents[name]
            del contents["counts"][name]
        sides = (label[side] for label in contents["labels"] for side in ("left", "right"))
        contents["counts"]["clips"] = len(set(sides))

    old = forged(full, tmp_path / "old.zip", older)
    archive, now = read_archive(old), read_archive(full)
    assert archive.labels == now.labels
    assert archive.history == ((), (), (), (), ())
    assert import_archive(old, theirs.run.root) == (LABELS - 1, 0)
    assert import_archive(full, theirs.run.root) == (0, 0)  # the rest of the history is imported later
    assert len(read_history(theirs.store).repeats) == len(read_history(theirs.store).taken_back) == 1


def test_files_of_the_second_format_are_read(full: Path, theirs: People, tmp_path: Path) -> None:
    now = read_archive(full)

    def older(contents: dict[str, Any], members: dict[str, bytes]) -> None:
        third(contents)
        contents["format"] = 2
        for name in ("late", "flags_taken_back"):
            del contents[name]
            del contents["counts"][name]
        contents["counts"]["clips"] = len(segments_of(now.labels, now.history._replace(late=(), flags_taken_back=())))

    old = forged(full, tmp_path / "old.zip", older)
    assert read_archive(old).history == now.history._replace(late=(), flags_taken_back=())
    import_archive(old, theirs.run.root)
    import_archive(full, theirs.run.root)  # the rest of the history is imported later
    assert theirs.store.late_answers() == len(read_history(theirs.store).flags_taken_back) == 1


def test_files_of_the_third_format_are_read(full: Path, tmp_path: Path) -> None:
    now, old = read_archive(full), read_archive(forged(full, tmp_path / "old.zip", third))
    assert (old.labels, old.history, old.digests) == (now.labels, now.history, now.digests)


def entry(name: str, /, **values: Any) -> Any:
    return lambda contents, members: contents[name][0].update(values)


def twice(kind: str) -> Any:
    def change(contents: dict[str, Any], members: dict[str, bytes]) -> None:
        contents[kind].append(contents[kind][0] | ({} if "flags" in kind else {"id": 9999}))
        contents["counts"][kind] += 1
        if kind == "labels":
            contents["counts"][contents[kind][0]["value"]] += 1

    return change


def other_way_round(contents: dict[str, Any], members: dict[str, bytes]) -> None:
    """The same label again, the sides and the judgement swapped."""
    twice("labels")(contents, members)
    again = contents["labels"][-1]
    contents["counts"][again["value"]] -= 1
    again["segments"] = again["segments"][::-1]
    again["value"] = {"left": "right", "right": "left"}[again["value"]]
    contents["counts"][again["value"]] += 1


FORGERIES = {
    "a label twice": twice("labels"),
    "a label twice, the other way round": other_way_round,
    "an answer taken back twice": twice("taken_back"),
    "a repeat twice": twice("repeats"),
    "a flag twice": twice("flags"),
    "a flag taken back twice": twice("flags_taken_back"),
    "a flag that stands and was taken back": lambda c, m: c["flags_taken_back"][0].update(c["flags"][0]),
    "a flag taken back at no time": entry("flags_taken_back", undone_at=""),
    "a late answer with a label's id": entry("late", id=1),
    "a late answer of another field": entry("late", mood="bad"),
    "no list of late answers": lambda c, m: c.pop("late"),
    "a format that is none": lambda c, m: c.update(format=0),
    "a label that was taken back": lambda c, m: c["taken_back"][0].update(
        {k: c["labels"][0][k] for k in c["labels"][0] if k != "id"}
    ),
    "an id that a label has": entry("taken_back", id=1),
    "no time of undoing": lambda c, m: c["taken_back"][0].pop("undone_at"),
    "a time of undoing that is none": entry("taken_back", undone_at="later"),
    "a repeat of nothing": entry("repeats", repeats=9999),
    "a repeat of itself": lambda c, m: c["repeats"][0].update(repeats=c["repeats"][0]["id"]),
    "a repeat of a word": entry("repeats", repeats="one"),
    "no list of repeats": lambda c, m: c.pop("repeats"),
    "a list of flags that is none": lambda c, m: c.update(flags={}),
    "a flag without a reason": entry("flags", reason=None),
    "a flag of another field": entry("flags", mood="bad"),
    "a flag at no time": entry("flags", created_at=""),
    "a flag before the first step": entry("flags", agent_step=-1),
    "a flag of a clip that is missing": entry("flags", segments=[4444, 5]),
    "counts without repeats": lambda c, m: c["counts"].pop("repeats"),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_history_with_something_wrong_in_it(what: str, full: Path, tmp_path: Path) -> None:
    bad = forged(full, tmp_path / "bad.zip", FORGERIES[what])
    assert f"{bad} is damaged" in refused(prefrl("labels", "import", bad), 1)


def test_importing_a_file_with_a_duplicate_label_is_refused(full: Path, theirs: People, tmp_path: Path) -> None:
    bad = forged(full, tmp_path / "bad.zip", twice("labels"))
    assert "are the same one" in refused(prefrl("labels", "import", bad, "--into", theirs.run.root), 1)
    assert labels_of(theirs.run) == []


# -- tables -----------------------------------------------------------------------------------------------------------


def test_a_csv_file_is_a_table_of_the_standing_answers(ours: People, tmp_path: Path) -> None:
    ours.queue.take_back("viewer", "Bjørn")
    ours.ask_again("Ann")
    (repeat,) = read_history(ours.store).repeats
    path = tmp_path / "labels.csv"
    done = prefrl("labels", "export", ours.run.root, path)
    assert (done.code, done.out, done.err) == (0, f"{path}: {LABELS} answers\n", "")
    assert not zipfile.is_zipfile(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == sorted([label.id for label in labels_of(ours.run)] + [repeat.id])
    assert [row["repeats"] for row in rows] == [""] * (LABELS - 1) + [str(repeat.repeats)]
    for row, label in zip(rows, labels_of(ours.run), strict=False):
        assert (int(row["left"]), int(row["right"]), row["judgement"]) == (*label.segments, label.value)
        assert (row["teacher"], row["labeller"] or None, int(row["agent_step"])) == label.provenance[:3]
        seconds = float(row["response_seconds"]) if row["response_seconds"] else None
        assert (seconds, row["created_at"]) == label.provenance[3:]


@pytest.mark.parametrize("name", ["labels", "labels.json", "labels.zip.txt", "labels.CSVX"])
def test_other_names_are_refused(name: str, ours: People, tmp_path: Path) -> None:
    line = refused(prefrl("labels", "export", ours.run.root, tmp_path / name), 2)
    assert name in line
    assert ".zip" in line
    assert ".csv" in line
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["labels.CSV", "labels.ZIP"])
def test_an_ending_may_be_in_capitals(name: str, ours: People, tmp_path: Path) -> None:
    assert prefrl("labels", "export", ours.run.root, tmp_path / name).code == 0
    assert zipfile.is_zipfile(tmp_path / name) == (name == "labels.ZIP")


def test_a_table_that_cannot_be_written(ours: People, theirs: People, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    assert "is there already" in refused(prefrl("labels", "export", ours.run.root, tmp_path / "mine.csv"), 2)
    assert (tmp_path / "mine.csv").read_text() == "mine"
    nowhere = tmp_path / "no" / "labels.csv"
    assert "cannot be written" in refused(prefrl("labels", "export", ours.run.root, nowhere), 2)
    assert "no labels yet" in refused(prefrl("labels", "export", theirs.run.root, tmp_path / "none.csv"), 1)
    assert not (tmp_path / "none.csv").exists()


def test_help_says_what_the_endings_mean() -> None:
    text = " ".join(prefrl("labels", "export", "--help").out.split())
    assert "NAME.zip" in text
    assert "NAME.csv" in text
