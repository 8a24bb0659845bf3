import json
import math
import os
import pickle
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from helpers import quick, same_tree
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from prefrl.storage.files import DamagedFileError, load_tree, read_json, save_tree, write_atomically, write_json

names = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=8)
shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
dtypes = st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_])
arrays = dtypes.flatmap(lambda dtype: npst.arrays(dtype, shapes))
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
leaves = arrays | plain | st.lists(plain, max_size=3)
trees = st.recursive(
    st.dictionaries(names, leaves, max_size=3),
    lambda inner: st.dictionaries(names, leaves | inner, max_size=3),
    max_leaves=6,
)


@quick
@given(trees)
def test_what_is_saved_comes_back(tree):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree"
        save_tree(path, tree)
        assert same_tree(load_tree(path), tree)


def test_nan_infinities_and_random_states_come_back(tmp_path):
    state = np.random.default_rng(1).bit_generator.state
    tree = {"rng": state, "odd": {"nan": math.nan, "inf": -math.inf}, "array": np.array([np.nan, np.inf, -0.0])}
    save_tree(tmp_path / "tree", tree)
    loaded = load_tree(tmp_path / "tree")
    assert loaded["rng"] == state
    assert math.isnan(loaded["odd"]["nan"])
    assert loaded["odd"]["inf"] == -math.inf
    assert loaded["array"].tobytes() == tree["array"].tobytes()


def test_tensors_and_numpy_scalars_come_back_as_arrays_and_numbers(tmp_path):
    tree = {
        "t": torch.arange(6.0).reshape(2, 3).requires_grad_(),
        "n": np.int64(3),
        "f": np.float32(0.5),
        "s": torch.tensor(2),
    }
    save_tree(tmp_path / "tree", tree)
    loaded = load_tree(tmp_path / "tree")
    np.testing.assert_array_equal(loaded["t"], [[0, 1, 2], [3, 4, 5]])
    assert (loaded["n"], loaded["f"]) == (3, 0.5)
    assert loaded["s"].shape == ()


def test_arrays_that_are_views_or_transposed_come_back(tmp_path):
    base = np.arange(24.0).reshape(4, 6)
    tree = {"t": base.T, "strided": base[::2, ::3], "reversed": base[::-1]}
    save_tree(tmp_path / "tree", tree)
    for name, array in load_tree(tmp_path / "tree").items():
        np.testing.assert_array_equal(array, tree[name])


def test_loaded_arrays_can_be_written_to(tmp_path):
    save_tree(tmp_path / "tree", {"a": np.zeros(3)})
    loaded = load_tree(tmp_path / "tree")["a"]
    loaded += 1
    assert load_tree(tmp_path / "tree")["a"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("leaf", [object(), {1, 2}, b"bytes", 1j, lambda: None])
def test_a_leaf_that_is_not_plain_data_is_refused_before_anything_is_written(tmp_path, leaf):
    save_tree(tmp_path / "tree", {"a": 1})
    with pytest.raises(TypeError):
        save_tree(tmp_path / "tree", {"a": leaf})
    assert load_tree(tmp_path / "tree") == {"a": 1}
    assert os.listdir(tmp_path) == ["tree"]


@pytest.fixture
def whole(tmp_path):
    tree = {"weights": {"w": np.arange(12.0, dtype=np.float32), "b": np.ones(2)}, "step": 7, "name": "x"}
    save_tree(tmp_path / "tree", tree)
    return tmp_path / "tree"


def test_truncation_at_any_point_is_detected(whole):
    content = whole.read_bytes()
    for length in range(len(content)):
        whole.write_bytes(content[:length])
        with pytest.raises(DamagedFileError):
            load_tree(whole)


def test_any_flipped_byte_is_detected_or_changes_nothing(whole):
    content, tree = whole.read_bytes(), load_tree(whole)
    undetected = []
    for place in range(len(content)):
        for bit in (0x01, 0xFF):
            damaged = bytearray(content)
            damaged[place] ^= bit
            whole.write_bytes(damaged)
            try:
                unharmed = same_tree(load_tree(whole), tree)
            except DamagedFileError:
                continue
            if not unharmed:
                undetected.append((place, bit))
    assert undetected == []


def test_appended_bytes_are_detected(whole):
    whole.write_bytes(whole.read_bytes() + b"\0" * 8)
    with pytest.raises(DamagedFileError):
        load_tree(whole)


def test_a_header_that_promises_terabytes_is_refused(whole):
    whole.write_bytes(struct.pack("<Q", 1 << 42) + whole.read_bytes()[8:])
    with pytest.raises(DamagedFileError):
        load_tree(whole)


class Trap:
    def __reduce__(self):
        return (os.mkdir, (os.environ["TRAP"],))


def test_a_pickle_is_refused_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    (tmp_path / "pickle").write_bytes(pickle.dumps(Trap()))
    torch.save({"a": Trap()}, tmp_path / "torch")
    np.save(tmp_path / "numpy.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    for name in ("pickle", "torch", "numpy.npy"):
        with pytest.raises(DamagedFileError):
            load_tree(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_an_object_array_cannot_be_saved(tmp_path):
    with pytest.raises((TypeError, safetensors.SafetensorError)):
        save_tree(tmp_path / "tree", {"a": np.array([object()], dtype=object)})


def test_a_safetensors_file_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "theirs").write_bytes(safetensors.numpy.save({"a": np.zeros(3)}))
    with pytest.raises(DamagedFileError):
        load_tree(tmp_path / "theirs")


def test_a_missing_file_is_not_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tree(tmp_path / "none")


def test_writing_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path):
    write_atomically(tmp_path / "f", b"long old content")
    write_atomically(tmp_path / "f", b"new", durable=True)
    assert (tmp_path / "f").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "f", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "f", b"new", durable=True)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_json_comes_back_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "f", {"b": [1, 2.5, None], "a": "é"})
    assert read_json(tmp_path / "f") == {"b": [1, 2.5, None], "a": "é"}
    assert (tmp_path / "f").read_text().endswith("}\n")


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe\x00", b"not json", b'{"a": 1} x'])
def test_what_is_not_json_is_damaged(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(DamagedFileError, match="damaged"):
        read_json(tmp_path / "f")


def test_plain_values_can_be_read_with_ordinary_tools(whole):
    with safetensors.safe_open(whole, framework="numpy") as file:
        assert json.loads(file.metadata()["plain"])["step"] == 7
        assert sorted(file.keys()) == ["weights/b", "weights/w"]
