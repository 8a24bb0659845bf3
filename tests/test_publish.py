"""Published results contain what a report reads, and nothing else."""

import json
from pathlib import Path

import pytest
from bench_runs import finish, finish_suite, suite
from prefrl_benchmarks.publish import publish
from prefrl_benchmarks.report.page import analyse
from prefrl_benchmarks.results import read_results
from runs import prefrl, refused

from prefrl.errors import UsageError

RETURNS = {
    ("cheetah", "true"): (300.0, 500.0),
    ("cheetah", "full"): (200.0, None),
    ("reacher", "true"): (-2.0, -4.0),
    ("reacher", "full"): (-3.0, -5.0),
}


def made(folder, **changes):
    finish_suite(suite(**changes), folder, RETURNS)
    (folder / "random.json").write_text(json.dumps({"episodes": 30, "returns": {"cheetah": -100.0, "reacher": -10.0}}))
    for root in (each for each in folder.iterdir() if each.is_dir()):
        (root / "labels.sqlite").write_bytes(b"somebody's labels")
        (root / "clips").mkdir(exist_ok=True)
    (folder / "cheetah_ppo_oracle-sync-50_s1.log").write_text("a long story\nprefrl: no more disk\n")
    return folder


@pytest.fixture
def folder(tmp_path):
    return made(tmp_path / "runs")


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_report_of_the_copy_is_that_of_the_whole(folder, tmp_path):
    publish(folder, tmp_path / "out")
    whole, copied = analyse([folder]), analyse([tmp_path / "out"])
    assert copied.problems == whole.problems
    assert [each.values() for each in copied.aggregates] == [each.values() for each in whole.aggregates]
    assert [each.curve[1].tolist() for each in copied.groups] == [each.curve[1].tolist() for each in whole.groups]


def test_a_part_of_a_suite_does_not_replace_the_whole(folder, tmp_path):
    publish(folder, tmp_path / "out")
    part = made(tmp_path / "part", tasks=("reacher",))
    before = (tmp_path / "out" / "suite.json").read_bytes()
    with pytest.raises(
        UsageError, match=r"holds cheetah_ppo_\S+ and in all 3 finished cells that .*part does not plan"
    ):
        publish(part, tmp_path / "out")
    assert (tmp_path / "out" / "suite.json").read_bytes() == before
    publish(folder, tmp_path / "out")  # again is no loss


def test_labels_and_clips_stay_where_they_are(folder, tmp_path):
    publish(folder, tmp_path / "out")
    cell = "reacher_ppo_none_s0"
    held = names(tmp_path / "out")
    assert {Path(name).name for name in held if cell in name} == {"config.json", "metrics.csv", "summary.json"}
    assert not any("labels" in name or "clips" in name for name in held)
    assert (folder / cell / "labels.sqlite").read_bytes() == b"somebody's labels"


def test_why_a_cell_is_missing_goes_along_until_it_is_there(folder, tmp_path):
    publish(folder, tmp_path / "out")
    (left,) = read_results([tmp_path / "out"]).unfinished
    assert left.reason == "no more disk"
    finish(left.cell, folder, 400.0)
    publish(folder, tmp_path / "out")
    assert len(read_results([tmp_path / "out"]).finished) == 8
    assert not [name for name in names(tmp_path / "out") if name.endswith(".log")]


def test_what_may_only_be_read_is_left_as_it_is(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "prefrl_benchmarks.random_baseline.random_return", {"reacher": -10.0, "cheetah": -100.0}.__getitem__
    )
    (folder / "random.json").unlink()
    before = names(folder)
    publish(folder, tmp_path / "out")
    assert names(folder) == before
    assert json.loads((tmp_path / "out" / "random.json").read_text())["returns"] == {
        "reacher": -10.0,
        "cheetah": -100.0,
    }


def test_another_suite_s_copy_is_not_written_over(folder, tmp_path):
    other = made(tmp_path / "other", name="other")
    publish(folder, tmp_path / "out")
    before = names(tmp_path / "out")
    assert "holds the suite test" in refused(prefrl("bench", "publish", other, tmp_path / "out"), 2)
    assert names(tmp_path / "out") == before


def test_what_cannot_be_copied_or_written_is_one_line(folder, tmp_path):
    (tmp_path / "file").touch()
    assert "no suite.json" in refused(prefrl("bench", "publish", tmp_path, tmp_path / "out"), 2)
    assert "cannot be written" in refused(prefrl("bench", "publish", folder, tmp_path / "file"), 2)
    done = prefrl("bench", "publish", folder, tmp_path / "out")
    assert (done.code, done.out) == (0, f"{tmp_path / 'out'}: 7 of 8 cells\n")
