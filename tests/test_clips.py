"""A clip is a segment as it was experienced; those of format 1 hold what one reward model read."""

import dataclasses
import zlib

import numpy as np
import pytest
from helpers import quick, same_segment, same_tree
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from labelled import add_labels, make_run, random_segment

from prefrl.errors import DamagedFileError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.transfer import export_labels, import_labels
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import load_tree, save_tree

_FLOATS = st.sampled_from([np.float32, np.float64])


@st.composite
def any_segment(draw):
    """Vectors, images or stacks of frames, with continuous or one-hot actions."""
    length, stack = draw(st.integers(1, 5)), draw(st.sampled_from([1, 1, 2, 4]))
    if stack > 1:
        frames = draw(hnp.arrays(np.uint8, (length + stack - 1, 6, 7)))
    else:
        shape = draw(st.sampled_from([(3,), (2, 3), (3, 5, 6)]))
        frames = draw(hnp.arrays(np.uint8 if len(shape) == 3 else draw(_FLOATS), (length, *shape)))
    if draw(st.booleans()):
        actions = np.eye(4, dtype=np.float32)[draw(hnp.arrays(np.int64, length, elements=st.integers(0, 3)))]
    else:
        actions = draw(hnp.arrays(np.float32, (length, *draw(st.sampled_from([(1,), (6,), (2, 2)])))))
    ends = draw(hnp.arrays(bool, (2, length)))
    return Segment(draw(st.integers(-9, 9)), frames, actions, draw(hnp.arrays(np.float32, length)), *ends, stack)


@quick
@given(any_segment())
def test_a_segment_comes_back_as_it_was(tmp_path_factory, segment):
    clips = ClipFolder(tmp_path_factory.mktemp("clips"))
    assert clips.save(segment)
    kept = clips.load(segment.id)
    assert same_segment(kept, segment)
    assert same_tree(kept.features, segment.features)
    assert not kept.is_encoded


def test_an_image_clip_keeps_its_actions(tmp_path):
    clips, segment = ClipFolder(tmp_path), random_segment(3, "moving-dot")
    clips.save(segment)
    np.testing.assert_array_equal(clips.load(3).actions, segment.actions)
    assert clips.load(3).observations.shape == (15, 4, 48, 48)


def changed(segment, name):
    array = getattr(segment, name).copy()
    array[-1] = ~array[-1] if array.dtype == bool else array[-1] + 1
    return dataclasses.replace(segment, **{name: array})


@pytest.mark.parametrize("task", ["reacher", "moving-dot"])
@pytest.mark.parametrize("name", ["frames", "actions", "true_rewards", "terminated", "truncated"])
def test_a_clip_is_written_once(tmp_path, task, name):
    clips, segment = ClipFolder(tmp_path), random_segment(3, task)
    assert clips.save(segment)
    before = clips.file(3).read_bytes()
    assert clips.save(dataclasses.replace(segment))
    assert not clips.save(changed(segment, name))
    assert clips.file(3).read_bytes() == before


# -- format 1 ---------------------------------------------------------------------------------------------------------


def write_format_1(clips, segment):
    """Write a clip as older versions did."""
    features = segment.features
    if features.dtype == np.uint8:
        deflated = np.frombuffer(zlib.compress(features.tobytes()), np.uint8)
        features = {"deflated": deflated, "shape": list(features.shape)}
    save_tree(clips.file(segment.id), {"features": features, "true_rewards": segment.true_rewards})


@pytest.mark.parametrize("task", ["reacher", "moving-dot"])
def test_a_clip_of_format_1_reads_equal_features_and_is_left_as_it_is(tmp_path, task):
    clips, segment = ClipFolder(tmp_path), random_segment(3, task)
    write_format_1(clips, segment)
    kept, before = clips.load(3), clips.file(3).read_bytes()
    assert same_tree(kept.features, segment.features)
    assert same_tree(kept.true_rewards, segment.true_rewards)
    assert (kept.is_encoded, kept.stack, kept.actions.shape) == (True, segment.stack, (15, 0))
    assert not kept.terminated.any()
    assert not kept.truncated.any()
    assert clips.save(segment)
    assert clips.save(changed(segment, "terminated"))  # what it does not hold
    assert not clips.save(changed(segment, "frames"))
    assert not clips.save(changed(segment, "true_rewards"))
    assert clips.file(3).read_bytes() == before


@pytest.mark.parametrize("name", ["finished", "unfinished", "image", "human"])
def test_the_clips_of_old_runs_read_as_the_features_that_they_hold(old, name):
    run = RunDirectory.open(old / name)
    clips, paths = ClipFolder(run.clips), sorted(run.clips.glob("[0-9]*[0-9].safetensors"))
    assert len(paths) >= 4
    for path in paths:
        tree, kept = load_tree(path), clips.load(int(path.stem))
        assert "format" not in tree
        packed, features = tree["features"], kept.features
        held = packed["shape"] if isinstance(packed, dict) else list(packed.shape)
        assert list(features.shape) == held
        if not isinstance(packed, dict):
            assert same_tree(features, packed)
        assert same_tree(kept.true_rewards, tree["true_rewards"])
        assert kept.stack == run.config.frame_stack


def test_an_archive_may_hold_clips_of_both_formats(tmp_path):
    source, target = make_run(tmp_path / "source"), make_run(tmp_path / "target")
    add_labels(source, 3)
    clips = ClipFolder(source.clips)
    clips.file(2).unlink()
    write_format_1(clips, random_segment(2))
    export_labels(source.root, tmp_path / "labels.zip")
    assert read_archive(tmp_path / "labels.zip").task.recorded is not None
    assert import_labels(tmp_path / "labels.zip", target.root) == 3
    kept = [ClipFolder(target.clips).load(number) for number in range(-4, 0)]
    assert sorted(each.is_encoded for each in kept) == [False, False, False, True]


# -- damage -----------------------------------------------------------------------------------------------------------

_STEPS = 15
DAMAGE = {
    "observations": [np.zeros((_STEPS + 1, 10), np.float32), np.zeros((_STEPS + 3, 10), np.float32), np.float32(0)],
    "actions": [np.zeros((_STEPS - 1, 2), np.float32), np.zeros(0, np.float32)],
    "true_rewards": [np.zeros((_STEPS, 1), np.float32), np.zeros(0, np.float32)],
    "terminated": [np.zeros(_STEPS), np.zeros(_STEPS, np.uint8), np.zeros(1, bool), np.zeros((_STEPS, 1), bool)],
    "truncated": [np.zeros(_STEPS + 1, bool), False],
    "stack": [0, -1, 2, 4, 2**70, 1.0, "1", [1]],
}


@pytest.mark.parametrize(("name", "content"), [(name, each) for name, values in DAMAGE.items() for each in values])
def test_parts_that_do_not_fit_together_are_damage(tmp_path, name, content):
    clips = ClipFolder(tmp_path)
    clips.save(random_segment(0))
    save_tree(clips.file(0), load_tree(clips.file(0)) | {name: content})
    with pytest.raises(DamagedFileError, match="is damaged: it has unexpected content"):
        clips.load(0)
    assert not clips.save(random_segment(0))


@pytest.mark.parametrize("name", DAMAGE)
def test_a_part_that_is_missing_is_damage(tmp_path, name):
    clips = ClipFolder(tmp_path)
    clips.save(random_segment(0, "moving-dot"))
    tree = load_tree(clips.file(0))
    del tree[name]
    save_tree(clips.file(0), tree)
    with pytest.raises(DamagedFileError, match="is damaged: it has unexpected content"):
        clips.load(0)


def test_a_clip_without_steps_is_damaged(tmp_path):
    clips = ClipFolder(tmp_path)
    for stack, frames in ((1, np.zeros((0, 10), np.float32)), (4, np.zeros((3, 48, 48), np.uint8))):
        nothing = (np.zeros((0, 2), np.float32), np.zeros(0, np.float32), *np.zeros((2, 0), bool))
        clips.save(Segment(stack, frames, *nothing, stack))
        with pytest.raises(DamagedFileError, match="0 steps"):
            clips.load(stack)


@pytest.mark.parametrize("rewards", [14, 16, 0])
@pytest.mark.parametrize("features", [(15, 12), (18, 48, 48), (0, 12)])
def test_a_clip_of_format_1_whose_parts_do_not_fit_together_is_damaged(tmp_path, features, rewards):
    tree = {"features": np.zeros(features, np.float32), "true_rewards": np.zeros(rewards, np.float32)}
    save_tree(ClipFolder(tmp_path).file(0), tree)
    with pytest.raises(DamagedFileError, match="is damaged: it has unexpected content"):
        ClipFolder(tmp_path).load(0)
