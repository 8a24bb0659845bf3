"""Files from others are read only if they are ordinary, bounded in size and of the expected types."""

import json
import os
import time
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import pytest
import safetensors.numpy

from prefrl.config.typed import conform
from prefrl.errors import DamagedFileError, UsageError
from prefrl.storage.files import load_tree, save_tree, taken_from
from prefrl.storage.reading import parse_json, read_bytes, read_json, read_toml

# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_bytes, read_json, read_toml, load_tree])
@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "link to a device"])
def test_what_is_no_ordinary_file_is_refused_at_once(read, kind, tmp_path):
    path = tmp_path / "file"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        path = type(path)("/dev/zero")
    began = time.monotonic()
    with pytest.raises(DamagedFileError, match="not a regular file"):
        read(path)
    assert time.monotonic() - began < 1


def test_a_file_is_read_up_to_its_bound(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    assert read_bytes(path, 4) == b"1234"
    with pytest.raises(DamagedFileError, match="more than can be right"):
        read_bytes(path, 3)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "nothing")


def test_a_sparse_file_of_terabytes_costs_nothing(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(2**42)
    for read in (read_json, load_tree):
        with pytest.raises(DamagedFileError, match="more than can be right"):
            read(path)


# -- JSON and TOML --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[" + b"[]," * 600_000 + b"[]]", "too many objects"),
        (b'{"a": NaN}', "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e400]", "1e400"),
        (b"1" * 5000, "too large"),
        (b'"\\ud800"', "surrogates"),
        (b'{"\\udc00": 1}', "surrogates"),
        (b'"\xed\xa0\x80"', "decode"),
        (b"\xff\xfe\x00", "decode"),
        (b"", "Expecting value"),
        (b"{}{}", "Extra data"),
    ],
)
def test_json_that_is_none_of_ours(content, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        parse_json(content)
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="not JSON"):
        read_json(path, 2**24)


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "é 走 \U0001f600"]}, 2**128 - 1, -1e300, "\x1b[2J"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_of_ours_comes_back(value, ascii_only):
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only)) == value


def test_numbers_that_are_none_only_where_they_may_be():
    assert np.isnan(parse_json("[NaN]", finite=False)[0])
    assert parse_json("[1e400]", finite=False) == [float("inf")]


@pytest.mark.parametrize("content", ["a = " + "[" * 100_000, "a = 1e400", "a = nan", "a", "\x00", "a = 1\na = 2"])
def test_toml_that_cannot_be_read(content, tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"."):
        read_toml(path)


# -- types ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    width: int
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    inner: Inner
    share: float = 0.5
    sizes: tuple[int, ...] = (1, 2)
    limit: int | None = None
    names: dict[str, int] = field(default_factory=dict)


def test_what_conforms_comes_back_as_its_type():
    data = {"inner": {"width": 3, "kind": "b"}, "share": 1, "sizes": [4], "limit": None, "names": {"x": 1}}
    assert conform(Outer, data, "") == Outer(Inner(3, "b"), 1.0, (4,), None, {"x": 1})
    assert isinstance(conform(Outer, data, "").share, float)
    assert conform(float | None, 1, "x") == 1.0
    assert conform(list[str], ["é"], "x") == ["é"]
    assert conform(Any, {"a": []}, "x") == {"a": []}


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, True),
        (int, 1.0),
        (int, 2**63),
        (int, -(2**63)),
        (int, "1"),
        (int, None),
        (bool, 1),
        (float, float("nan")),
        (float, float("inf")),
        (float, 10**400),
        (float, True),
        (float | None, "x"),
        (str, b"x"),
        (str, "\ud800"),
        (str, 1),
        (Literal["a", "b"], "c"),
        (Literal["a", "b"], ["a"]),
        (tuple[int, ...], [1, "2"]),
        (tuple[int, ...], {"1": 1}),
        (list[str], "abc"),
        (dict[str, int], [1]),
        (dict[str, int], {"a": None}),
        (Inner, []),
        (Inner, {}),
        (Inner, {"width": 1, "new": 2}),
        (Inner, {"width": 1, "\ud800": 2}),
    ],
)
def test_what_does_not_is_reported_in_one_line(hint, value):
    with pytest.raises(UsageError) as error:
        conform(hint, value, "x")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


def test_an_error_tells_a_giant_value_briefly():
    with pytest.raises(UsageError) as error:
        conform(int, ["\x1b" * 10**6] * 1000, "size")
    assert len(str(error.value)) < 120
    assert "\x1b" not in str(error.value)


class Told(TypedDict):
    step: int
    state: NotRequired[str]


def test_a_table_keeps_what_another_version_wrote():
    data = {"step": 1, "newer": 2.5, "nested": {"a": 1}}
    assert conform(Told, data, "") == data
    for wrong in ([], {}, {"step": "1"}, {"step": 1, "state": 2}, {"step": None}):
        with pytest.raises(UsageError):
            conform(Told, wrong, "progress.json")


# -- trees ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["deep", "absurd shape", "no metadata", "long"])
def test_a_safetensors_file_of_somebody_elses(header, tmp_path):
    path = tmp_path / "tree.safetensors"
    if header == "no metadata":
        safetensors.numpy.save_file({"a": np.ones(3)}, path)
    else:
        told = {
            "deep": b'{"__metadata__":' + b"[" * 10_000,
            "absurd shape": json.dumps({"a": {"dtype": "F64", "shape": [2**62, 8], "data_offsets": [0, 8]}}).encode(),
            "long": b"{}",
        }[header]
        size = 2**62 if header == "long" else len(told)
        path.write_bytes(size.to_bytes(8, "little") + told + bytes(8))
    with pytest.raises(DamagedFileError) as error:
        load_tree(path)
    assert str(error.value).isprintable()


def test_a_whole_tree_of_other_content_is_reported_in_one_line(tmp_path):
    path = tmp_path / "tree.safetensors"
    save_tree(path, {"agent": {"policy": 3}, "deep": {"a": np.ones(2)}})
    with pytest.raises(DamagedFileError, match="has unexpected content"), taken_from(path):
        load_tree(path)["agent"]["policy"]["weights"]
    with pytest.raises(OSError, match="disk"), taken_from(path):
        raise OSError("the disk")  # no fault of the content's
