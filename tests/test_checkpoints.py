"""Checkpoints: which are kept, which is loaded, and what is said of damaged ones."""

from pathlib import Path

import numpy as np
import pytest
from helpers import same_tree

from prefrl.config import migrations
from prefrl.errors import PrefrlError
from prefrl.runs import checkpoints
from prefrl.runs.checkpoints import Checkpoints
from prefrl.storage.files import DamagedFileError, load_tree

POLICY = {"agent": {"policy": {"weights": np.ones(3)}}, "env": {"normaliser": {"mean": np.zeros(2)}}}
REST = {"agent": {"optimiser": np.ones(500)}, "learner": {"weights": np.ones(4)}}


def state(step):
    return {
        "agent": {**POLICY["agent"], **REST["agent"]},
        "env": POLICY["env"],
        "learner": REST["learner"],
        "step": step,
    }


@pytest.fixture
def saved(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    return Checkpoints(tmp_path / "run" / "checkpoints")


def damage(*paths: Path) -> None:
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])


@pytest.fixture
def durable(monkeypatch):
    """Whether the files that were saved are synced to disk."""
    real, found = checkpoints.save_tree, {}

    def save(path, tree, durable=False):
        found[path.name] = durable
        real(path, tree, durable=durable)

    monkeypatch.setattr(checkpoints, "save_tree", save)
    return found


def test_the_newest_two_are_kept_in_the_order_of_their_steps(saved):
    for step in (900, 10_000, 200_000):
        saved.save(step, state(step))
    assert [path.name for path in saved.files()] == ["000000010000.safetensors", "000000200000.safetensors"]
    assert saved.load(pytest.fail)["step"] == 200_000


def test_a_checkpoint_is_loaded_as_it_was_saved(saved):
    saved.save(7, state(7))
    assert same_tree(saved.load(pytest.fail), state(7) | {"pieces": {}})


def test_files_of_an_older_format_are_upgraded_and_new_ones_are_of_the_newest(saved, monkeypatch):
    saved.save(1, state(1))
    saved.save_recording(state(0))
    monkeypatch.setattr(migrations, "MIGRATIONS", (migrations.Rename("checkpoint", 2, "step", "steps"),))
    assert saved.load(pytest.fail)["steps"] == saved.load_policy(40)["steps"] == 1
    assert saved.load_recording(pytest.fail)["steps"] == 0
    saved.save_recording(state(0))
    assert load_tree(saved.recording)["format"] == 2
    saved.save(2, state(2))
    assert [load_tree(path)["format"] for path in saved.files()] == [1, 2]


def test_the_first_checkpoint_replaces_the_recording(saved):
    assert saved.load_recording(pytest.fail) is None
    saved.save_recording(state(0))
    assert saved.recording.name == "recording.safetensors"
    assert saved.files() == []
    assert saved.load_recording(pytest.fail)["step"] == 0
    assert saved.load(pytest.fail) is None
    saved.save(1, state(1))
    assert not saved.recording.exists()


def test_checkpoints_and_the_recording_are_synced_to_disk(saved, durable):
    saved.save_recording(state(0))
    saved.save(1, state(1))
    assert durable == {"recording.safetensors": True, "000000000001.safetensors": True}


def test_a_damaged_recording_is_recorded_again(saved):
    saved.save_recording(state(0))
    damage(saved.recording)
    told = []
    assert saved.load_recording(told.append) is None
    assert len(told) == 1
    assert "recording.safetensors is damaged" in told[0]
    assert told[0].endswith("; the untrained policy is recorded again")


def test_the_one_before_is_loaded_where_the_newest_is_damaged(saved):
    for step in (1, 2):
        saved.save(step, state(step))
    damage(saved.files()[1])
    told = []
    assert saved.load(told.append)["step"] == 1
    assert len(told) == 1
    assert "000000000002.safetensors is damaged" in told[0]
    assert saved.load_policy(10_000)["step"] == 1
    saved.check()


def test_a_run_whose_checkpoints_are_all_damaged_cannot_go_on(saved):
    for step in (1, 2):
        saved.save(step, state(step))
    damage(*saved.files())
    told = []
    for use in (saved.check, lambda: saved.load(told.append), lambda: saved.load_policy(10_000)):
        with pytest.raises(PrefrlError, match=r"all checkpoints of .*/run are damaged; `labels\.sqlite`") as caught:
            use()
        assert not isinstance(caught.value, DamagedFileError)
    assert ["000000000002" in told[0], "000000000001" in told[1]] == [True, True]


def test_a_run_without_checkpoints_starts_from_the_beginning(saved):
    saved.check()
    assert saved.load(pytest.fail) is None
    assert saved.load_policy(10_000) is None


def test_files_that_are_too_large_are_taken_for_damaged(saved):
    saved.save_recording(state(0))
    size = saved.recording.stat().st_size
    assert saved.load_recording(pytest.fail, size)["step"] == 0
    told = []
    assert saved.load_recording(told.append, size - 1) is None
    saved.save(1, state(1))
    size = saved.files()[0].stat().st_size
    assert saved.load(pytest.fail, size)["step"] == 1
    with pytest.raises(PrefrlError, match="all checkpoints"):
        saved.load(told.append, size - 1)
    assert len(told) == 2


def test_of_a_policy_only_what_it_needs_to_act_is_read(saved):
    """3 weights and 2 means, of 8 bytes each."""
    saved.save(1, state(1))
    assert same_tree(saved.load_policy(40), POLICY | {"learner": {}, "step": 1, "pieces": []})
    with pytest.raises(PrefrlError, match="all checkpoints"):
        saved.load_policy(39)


def pieces(*names, made=None):
    """Pieces with their own numbers; `made` receives the names of those that are made."""

    def make(name):
        if made is not None:
            made.append(name)
        return {"content": np.full(3, int(name))}

    return {str(name): (lambda name=name: make(str(name))) for name in names}


def on_disk(saved):
    return sorted(path.name for path in saved._folder.glob("piece-*"))


def test_pieces_are_written_once_synced_and_loaded_with_the_checkpoint(saved, durable):
    made = []
    saved.save(1, state(1), pieces(10, 11, made=made))
    saved.save(2, state(2), pieces(10, 11, 12, made=made))
    assert sorted(made) == ["10", "11", "12"]
    assert all(durable[name] for name in on_disk(saved))
    loaded = saved.load(pytest.fail, most_pieces=10_000)
    assert loaded["step"] == 2
    assert {name: piece["content"].tolist() for name, piece in loaded["pieces"].items()} == {
        str(number): [number] * 3 for number in (10, 11, 12)
    }


def test_pieces_stay_as_long_as_one_of_the_two_checkpoints_needs_them(saved):
    saved.save(1, state(1), pieces(10, 11))
    saved.save(2, state(2), pieces(11, 12))
    assert on_disk(saved) == [f"piece-{number}.safetensors" for number in (10, 11, 12)]
    damage(saved.files()[-1])
    again = Checkpoints(saved._folder)
    assert set(again.load(lambda line: None, most_pieces=10_000)["pieces"]) == {"10", "11"}
    saved.save(3, state(3), pieces(12, 13))
    assert on_disk(saved) == [f"piece-{number}.safetensors" for number in (11, 12, 13)]


def test_a_piece_of_a_time_after_the_checkpoint_that_is_loaded_is_made_again(saved):
    """A killed run leaves pieces that no checkpoint names, and may record other steps when it is resumed."""
    saved.save(1, state(1), pieces(10))
    other = Checkpoints(saved._folder)
    checkpoints.save_tree(other._piece("11"), {"content": np.zeros(3)})
    checkpoints.save_tree(other._piece("99"), {"content": np.zeros(3)})
    assert set(other.load(pytest.fail, most_pieces=10_000)["pieces"]) == {"10"}
    other.save(2, state(2), pieces(10, 11))
    assert other.load(pytest.fail, most_pieces=10_000)["pieces"]["11"]["content"].tolist() == [11] * 3
    assert on_disk(other) == ["piece-10.safetensors", "piece-11.safetensors"]


@pytest.mark.parametrize("harm", ["missing", "damaged", "a link", "too large"])
def test_the_checkpoint_before_is_loaded_where_a_piece_is_not_whole(saved, harm, tmp_path):
    saved.save(1, state(1), pieces(10))
    saved.save(2, state(2), pieces(10, 11))
    piece, said = saved._piece("11"), []
    content = piece.read_bytes()
    if harm == "damaged":
        damage(piece)
    else:
        piece.unlink()
    if harm == "a link":
        (tmp_path / "elsewhere").write_bytes(content)
        piece.symlink_to(tmp_path / "elsewhere")
    if harm == "too large":
        piece.write_bytes(content + bytes(20_000))
    assert saved.load(said.append, most_pieces=10_000)["step"] == 1
    assert len(said) == 1
    assert "damaged" in said[0]
    saved.check()
    damage(saved._piece("10"))
    with pytest.raises(PrefrlError, match="all checkpoints"):
        saved.check()


@pytest.mark.parametrize("names", ["10", ["../../secret"], [10], {"10": 1}])
def test_names_that_no_piece_has_are_refused(saved, names):
    saved.save(1, state(1) | {"pieces": []})
    checkpoints.save_tree(saved.files()[0], checkpoints.stamped("checkpoint", state(1) | {"pieces": names}))
    with pytest.raises(PrefrlError, match="all checkpoints"):
        saved.load(lambda line: None, most_pieces=10_000)


def test_the_recording_has_pieces_too(saved):
    saved.save_recording(state(0), pieces(10))
    assert set(saved.load_recording(pytest.fail, most_pieces=10_000)["pieces"]) == {"10"}
    damage(saved._piece("10"))
    said = []
    assert saved.load_recording(said.append, most_pieces=10_000) is None
    assert "recorded again" in said[0]
