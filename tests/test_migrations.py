"""Formats that grow: what a line in `MIGRATIONS` does to files of older versions, and what is refused in one line."""

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import segment
from prefrl_benchmarks import cells
from prefrl_benchmarks.results import read_manifest, read_results
from runs import OLD, prefrl
from test_admission import forged

from prefrl.config import RewardConfig, RunConfig, migrations, replace
from prefrl.config.migrations import (
    Add,
    Change,
    Rename,
    check_format,
    current_format,
    downgraded,
    opened,
    stamped,
    upgraded,
)
from prefrl.errors import DamagedFileError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback import archive_admission
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.label_history import RecordedAnswer
from prefrl.runs.directory import RunDirectory, read_config
from prefrl.runs.metrics import read_metrics
from prefrl.storage.files import load_tree, save_tree

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
PATH = Path("file")


@pytest.fixture
def add_migrations(monkeypatch):
    def add(*lines):
        monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, *lines))

    return add


def test_migrations_of_a_kind_stand_in_the_order_of_their_formats():
    for kind in {each.kind for each in migrations.MIGRATIONS}:
        numbers = [each.format for each in migrations.MIGRATIONS if each.kind == kind]
        assert numbers == sorted(numbers)


def test_a_file_goes_through_the_migrations_above_its_own_number(add_migrations):
    add_migrations(Rename("new", 2, "a.b", "a.c"), Rename("new", 3, "a.c", "d"), Add("new", 3, "a.e", [1]))
    data = {"a": {"b": 1}}
    assert current_format("new") == 3
    assert upgraded("new", data, 1, PATH) == {"a": {"e": [1]}, "d": 1}
    assert upgraded("new", {"a": {"c": 1}}, 2, PATH) == {"a": {"e": [1]}, "d": 1}
    assert upgraded("new", data, 3, PATH) == data == {"a": {"b": 1}}
    assert downgraded("new", {"a": {"e": [1]}, "d": 1}) == data
    assert downgraded("new", {"a": {"e": [2]}, "d": 1}) == {"a": {"b": 1, "e": [2]}}


@pytest.mark.parametrize("data", [[], None, 3, "text", {}, {"a": 3}, {"a": None}, {"a": []}])
def test_what_a_migration_does_not_find_is_left_to_the_check_of_types(data, add_migrations):
    add_migrations(Rename("new", 2, "a.b", "a.c"), Add("new", 2, "a.d.e", 1))
    assert upgraded("new", data, 1, PATH) == data


@pytest.mark.parametrize("data", [{"a": 1, "b": 2}, {"a": 1, "b": None}])
def test_a_migration_that_cannot_be_made_is_reported_in_one_line(data, add_migrations):
    add_migrations(Rename("new", 2, "a", "b"))
    with pytest.raises(DamagedFileError, match=r"^file cannot be upgraded: a is called b now"):
        upgraded("new", data, 1, PATH)


def test_a_change_of_any_kind_can_be_made_and_undone(add_migrations):
    double = Change("new", 2, lambda data: data.update(a=2 * data["a"]), lambda data: data.update(a=data["a"] / 2))
    add_migrations(double)
    assert upgraded("new", {"a": 1}, 1, PATH) == {"a": 2}
    assert downgraded("new", {"a": 2}) == {"a": 1}


@pytest.mark.parametrize("said", [None, "1", 1.0, True, 0, -1])
def test_a_format_is_a_number(said):
    with pytest.raises(DamagedFileError, match="has no valid format number"):
        check_format("config", said, PATH)


def test_a_newer_format_is_refused_with_its_version():
    with pytest.raises(UsageError, match=r"^file was made by a newer version of prefrl \(9\.9\)$"):
        check_format("config", current_format("config") + 1, PATH, "9.9")


# -- a run's files ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class RenamedReward(RewardConfig):
    """As if a later version said `slope` for `negative_slope`."""

    slope: float = 0.01


@dataclasses.dataclass(frozen=True)
class RenamedConfig(RunConfig):
    reward: RenamedReward = dataclasses.field(default_factory=RenamedReward)

    def to_json(self):
        data = super().to_json()
        del data["reward"]["negative_slope"]
        return data


@pytest.mark.parametrize(("suite", "count"), [("mujoco", 96), ("quick", 32)])
def test_published_results_stay_readable_after_a_renamed_setting(suite, count, monkeypatch, add_migrations):
    add_migrations(Rename("config", current_format("config") + 1, "reward.negative_slope", "reward.slope"))
    monkeypatch.setattr("prefrl.runs.directory.RunConfig", RenamedConfig)
    root = next(RESULTS.glob(f"{suite}/*/config.json"))
    raw = json.loads(root.read_text())["config"]
    config = read_config(root)[0]
    assert config.reward.slope == raw["reward"]["negative_slope"]
    assert "slope" not in downgraded("config", config.to_json())["reward"]
    results = read_results([RESULTS / suite])
    assert len(results.finished) == count
    assert not results.unfinished


def test_without_its_migration_a_renamed_setting_changes_the_hash(monkeypatch):
    root = next(RESULTS.glob("quick/*oracle*/config.json")).parent
    before = cells.fingerprint_of(root)
    monkeypatch.setattr("prefrl.runs.directory.RunConfig", RenamedConfig)
    assert cells.fingerprint_of(root) != before


def test_a_renamed_setting_of_a_suite_s_cells_is_read(add_migrations):
    manifest = read_manifest(RESULTS / "quick")
    entry = next(each for each in manifest["cells"] if each["labels"])
    names = {each.name for each in dataclasses.fields(cells.Cell)}
    cell = cells.Cell(**{name: value for name, value in entry.items() if name in names - {"settings"}})
    before = dataclasses.replace(cell, settings={"reward.members": 5}).config
    add_migrations(Rename("config", 9, "reward.predictors", "reward.members"))
    assert dataclasses.replace(cell, settings={"reward.predictors": 5}).config == before


def test_a_renamed_column_is_read_by_its_new_name(tmp_path, add_migrations):
    add_migrations(Rename("metrics", 2, "reward_fits", "reward_updates"))
    path = tmp_path / "metrics.csv"
    path.write_text("step,reward_fits\n2048,7\n4096,9\n")
    assert [row["reward_updates"] for row in read_metrics(path)] == [7, 9]


@pytest.mark.parametrize("kind", ["checkpoint", "learner", "scene", "weights"])
def test_trees_say_their_format_and_older_ones_say_none(kind, tmp_path, add_migrations):
    path = tmp_path / "tree.safetensors"
    save_tree(path, stamped(kind, {"a": {"b": np.ones(2)}}))
    assert load_tree(path)["format"] == current_format(kind) == 1
    add_migrations(Rename(kind, 2, "a.b", "a.c"), Add(kind, 2, "d", 0))
    for tree in (load_tree(path), {"a": {"b": np.ones(2)}}):
        now = opened(kind, tree, path)
        assert now.keys() == {"a", "d"}
        assert now["a"]["c"].tolist() == [1, 1]
    with pytest.raises(UsageError, match="newer version"):
        opened(kind, {"format": 3}, path)


def test_a_run_of_a_newer_version_is_refused_in_one_line_and_left_alone(tmp_path):
    root = RunDirectory.create(tmp_path / "run", RunConfig("hopper", "prefrl/Hopper-v0", horizon=1000)).root
    path = root / "config.json"
    data = json.loads(path.read_text())
    data["config"]["agent"]["unheard_of"] = 1
    for number, words in ((data["format"], "no setting 'agent.unheard_of'"), (data["format"] + 1, "newer version")):
        path.write_text(text := json.dumps(data | {"format": number, "prefrl": "9.9"}))
        before = sorted(root.rglob("*"))
        for command in ("status", "resume", "play"):
            result = prefrl(command, root)
            assert result.code
            assert words in result.err
            assert result.err.count("\n") == 1
        assert (path.read_text(), sorted(root.rglob("*"))) == (text, before)


def test_a_clip_of_a_newer_version_is_refused(tmp_path):
    clips = ClipFolder(tmp_path)
    save_tree(clips.file(3), {"format": 9, "features": np.zeros((2, 2)), "true_rewards": np.zeros(2)})
    with pytest.raises(UsageError, match=r"^[^\n]*00000003.safetensors was made by a newer version of prefrl$"):
        clips.load(3)


def test_a_clip_says_its_format(tmp_path):
    clips = ClipFolder(tmp_path)
    clips.save(segment(3))
    assert load_tree(clips.file(3))["format"] == current_format("clip") == 2


def test_a_reward_model_reads_the_action_as_before_in_files_that_could_not_say_otherwise():
    before = {True: True, False: None}
    for said, now in before.items():
        assert upgraded("config", {"reward": {"reads_actions": said}}, 7, PATH)["reward"]["reads_actions"] is now
    assert upgraded("config", {"reward": {}}, 6, PATH)["reward"]["reads_actions"] is None
    hashed = [_downgraded_reading(said) for said in (None, True, False)]
    assert hashed == [{}, {"reads_actions": True}, {"reads_actions": "never"}]


def _downgraded_reading(said):
    data = {"algo": "ppo", "agent": {"target_kl": None}, "reward": {"reads_actions": said}}
    return downgraded("config", data)["reward"]


OLD_KLS = {"target_kl": 0.02, "stopping_kl": 0.03}


@pytest.mark.parametrize(("algo", "given"), [("ppo", 0.03), ("a2c", 0.03), ("trpo", 0.02)])
def test_each_algorithm_keeps_the_kl_bound_that_it_read(algo, given):
    now = upgraded("config", {"algo": algo, "agent": OLD_KLS}, 1, PATH)
    assert now["agent"] == {"target_kl": given}
    expected = {"ppo": {"target_kl": 0.01, "stopping_kl": 0.03}, "trpo": {"target_kl": 0.02, "stopping_kl": None}}
    assert downgraded("config", now)["agent"] == expected.get(algo, expected["ppo"])


def test_the_default_kl_bounds_have_the_hashes_that_they_had():
    for algo in ("ppo", "trpo"):
        data = {"algo": algo, "agent": {"target_kl": None}}
        assert downgraded("config", data)["agent"] == {"target_kl": 0.01, "stopping_kl": None}


def test_a_setting_may_be_given_by_its_older_name():
    config = RunConfig("hopper", "prefrl/Hopper-v0")
    assert replace(config, {"agent.stopping_kl": 0.03}) == replace(config, {"agent.target_kl": 0.03})


# -- archives ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Later(RecordedAnswer):
    """A label of a later version, which has one more field."""

    confidence: int


def test_one_more_field_of_a_label_leaves_archives_readable(old, monkeypatch, add_migrations):
    add_migrations(Add("label", 3, "confidence", 5))
    monkeypatch.setattr(archive_admission, "RecordedAnswer", Later)
    labels = read_archive(old / "labels.zip").labels
    assert len(labels) == 12
    assert {label.confidence for label in labels} == {5}


def test_an_unknown_field_of_a_label_is_named_in_the_same_format_and_refused_in_a_newer_one(old, tmp_path):
    def more(number):
        def change(contents, members):
            contents["label_format"] = number
            for row in contents["labels"]:
                row["confidence"] = 5

        return change

    with pytest.raises(DamagedFileError, match="confidence"):
        read_archive(forged(old / "labels.zip", tmp_path / "same.zip", more(1)))
    with pytest.raises(UsageError, match="newer version"):
        read_archive(forged(old / "labels.zip", tmp_path / "newer.zip", more(3)))


def test_an_archive_says_the_formats_of_itself_and_of_its_labels(old, tmp_path):
    assert prefrl("labels", "export", old / "finished", tmp_path / "new.zip").code == 0
    with zipfile.ZipFile(tmp_path / "new.zip") as file:
        contents = json.loads(file.read("labels.json"))
    assert (contents["format"], contents["label_format"]) == (current_format("archive"), current_format("label"))
    assert contents["labels"][0].keys() == {field.name for field in dataclasses.fields(RecordedAnswer)}


def test_the_old_runs_are_small():
    assert OLD.stat().st_size < 1.5e6
