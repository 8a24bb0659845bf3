"""The history of labels in archives of every format and in tables; archives with something wrong are refused."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from labelled import FOR_REPEATS as LABELS
from labelled import People, answer_late, flag, labels_of
from runs import prefrl, refused
from test_admission import forged

from prefrl.feedback.archive import segments_of
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.label_history import History, read_history
from prefrl.feedback.transfer import import_archive


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
    assert "are duplicates" in refused(prefrl("labels", "import", bad, "--into", theirs.run.root), 1)
    assert labels_of(theirs.run) == []


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
    assert "exists already" in refused(prefrl("labels", "export", ours.run.root, tmp_path / "mine.csv"), 2)
    assert (tmp_path / "mine.csv").read_text() == "mine"
    nowhere = tmp_path / "no" / "labels.csv"
    assert "cannot be written" in refused(prefrl("labels", "export", ours.run.root, nowhere), 2)
    assert "no labels yet" in refused(prefrl("labels", "export", theirs.run.root, tmp_path / "none.csv"), 1)
    assert not (tmp_path / "none.csv").exists()


def test_help_says_what_the_endings_mean() -> None:
    text = " ".join(prefrl("labels", "export", "--help").out.split())
    assert "NAME.zip" in text
    assert "NAME.csv" in text
