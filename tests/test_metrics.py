import numpy as np
import pytest

from prefrl.runs.metrics import COLUMNS, MetricsFile, correlation, read_metrics

ROW = {"step": 2048, "labels": 175, "true_return_mean": 1.25, "reward_correlation": None, "time_seconds": 3.5}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


def test_rows_come_back_and_what_they_lack_is_empty(path):
    MetricsFile(path).append(ROW)
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert read_metrics(path) == [dict.fromkeys(COLUMNS) | ROW]


OLDER = tuple(name for name in COLUMNS if name not in ("pending", "l2"))
"""The header of a version that did not have these yet."""


def test_a_file_of_an_older_version_is_read_by_its_own_header(path):
    path.write_text(",".join(OLDER) + "\n" + ",".join("7" if name == "step" else "" for name in OLDER) + "\n")
    assert read_metrics(path) == [dict.fromkeys(COLUMNS) | {"step": 7}]


def test_columns_in_another_order_are_read_by_name(path):
    path.write_text("labels,step,true_return_mean\n3,2048,1.5\n4,4096,-2.5\n")
    assert [(row["step"], row["labels"], row["true_return_mean"]) for row in read_metrics(path)] == [
        (2048, 3, 1.5),
        (4096, 4, -2.5),
    ]


def test_what_an_older_version_wrote_stays_when_a_run_continues(path):
    path.write_text("step,labels\n2048,3\n4096,4\n")
    MetricsFile(path, upto=2048).append({"step": 5000, "labels": 5, "l2": 0.5})
    assert [(row["step"], row["labels"], row["l2"]) for row in read_metrics(path)] == [(2048, 3, None), (5000, 5, 0.5)]


def test_columns_of_a_newer_version_are_read_and_kept(path):
    path.write_text("step,phase,labels,unheard_of\n2048,warm-up,3,0.25\n")
    assert read_metrics(path) == [
        dict.fromkeys(COLUMNS) | {"step": 2048, "labels": 3, "phase": None, "unheard_of": 0.25}
    ]
    MetricsFile(path, upto=2048).append({"step": 4096})
    assert [row["unheard_of"] for row in read_metrics(path)] == [0.25, None]


@pytest.mark.parametrize("text", ["", "\n", "labels,pending\n3,1\n", "2048,3\n4096,4\n"])
def test_a_file_without_steps_has_no_rows(path, text):
    path.write_text(text)
    assert read_metrics(path) == []


def test_columns_that_depend_on_the_clock_are_named_so():
    timed = ["time_label_seconds", "time_seconds", "time_processor_seconds", "time_steps_per_second"]
    assert [name for name in COLUMNS if name.startswith("time_")] == timed
    assert not [name for name in COLUMNS if "second" in name and not name.startswith("time_")]


@pytest.mark.parametrize("value", [0.1, 123456.789, 1e-12, -7.5, 2.0, 1e20])
def test_numbers_come_back_to_nine_digits(path, value):
    MetricsFile(path).append({"step": 1, "l2": value})
    assert read_metrics(path)[0]["l2"] == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_empty(path, value):
    MetricsFile(path).append({"step": 1, "l2": value})
    assert read_metrics(path)[0]["l2"] is None


def test_opening_again_takes_out_the_rows_of_steps_that_are_gone(path):
    file = MetricsFile(path)
    for step in (2048, 4096, 6144):
        file.append({"step": step})
    MetricsFile(path, upto=4096).append({"step": 5000})
    assert [row["step"] for row in read_metrics(path)] == [2048, 4096, 5000]


def test_rows_that_are_kept_stay_as_they_were_written(path):
    MetricsFile(path).append(ROW | {"l2": 1 / 3, "training_loss": 1e-7, "predicted_reward_mean": 2.0})
    before = path.read_bytes()
    MetricsFile(path, upto=9999)
    assert path.read_bytes() == before


def test_a_new_run_starts_with_an_empty_file(path):
    MetricsFile(path).append(ROW)
    MetricsFile(path)
    assert read_metrics(path) == []


def test_a_last_line_that_was_cut_off_is_left_out(path):
    file = MetricsFile(path)
    file.append({"step": 2048, "labels": 3})
    file.append({"step": 4096, "labels": 4})
    whole = path.read_bytes()
    first = whole.index(b"4096")
    for length in range(first, whole.rindex(b",")):
        path.write_bytes(whole[:length])
        assert [row["step"] for row in read_metrics(path)] == [2048]
    MetricsFile(path, upto=2048).append({"step": 3000})
    assert [row["step"] for row in read_metrics(path)] == [2048, 3000]


def test_correlation_is_pearson_s():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 9)).astype(np.float32)
    y = (0.5 * x + rng.normal(size=x.shape)).astype(np.float32)
    expected = ((x - x.mean()) * (y - y.mean())).mean() / (x.std() * y.std())
    assert correlation(x, y) == pytest.approx(expected, rel=1e-4)
    assert correlation(x, 3 * x + 2) == pytest.approx(1)
    assert correlation(x, -x) == pytest.approx(-1)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1.0, 1.7, -123.4])
@pytest.mark.parametrize("count", [50, 100, 2048])
def test_correlation_with_what_does_not_vary_is_none(value, count):
    constant, varying = np.full(count, value, np.float32), np.arange(count, dtype=np.float32)
    assert correlation(constant, varying) is None
    assert correlation(varying, constant) is None


def test_correlation_with_what_varies_by_rounding_alone_is_none():
    # A hopper that lies still: rewards of 0.36 that differ in the last bits of a float32.
    still = np.float32(0.36) + np.array([0, 1, 0, 1], np.float32) * np.spacing(np.float32(0.36))
    assert np.ptp(still) > 0
    assert correlation(still, still) is None
    assert correlation(np.array([1, 2, 3, 4], np.float32), still) is None
    assert correlation(still, np.array([1, 2, 3, 4], np.float32)) is None


def test_correlation_of_small_differences_is_kept():
    nearly = np.float32(0.36) + np.array([0, 1, 2, 3], np.float32) * np.float32(1e-4)
    assert correlation(nearly, np.array([1, 2, 3, 4], np.float32)) == pytest.approx(1, abs=1e-3)


def test_correlation_of_less_than_two_values_is_none():
    assert correlation(np.zeros(0, np.float32), np.zeros(0, np.float32)) is None
    assert correlation(np.ones(1, np.float32), np.ones(1, np.float32)) is None


def test_correlation_of_small_rewards_is_not_lost():
    x = np.random.default_rng(0).normal(size=500).astype(np.float32)
    assert correlation(x * np.float32(1e-3), x) == pytest.approx(1, rel=1e-5)


def test_lines_that_were_damaged_or_cut_off_are_passed_over(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,labels,of another version\n1,2,3\n2,\xff,3\n3,4,word\n4,5")
    assert [(row["step"], row["labels"], row["of another version"]) for row in read_metrics(path)] == [
        (1, 2, 3),
        (3, 4, None),
    ]


def test_whole_numbers_of_nineteen_digits_are_read_as_floats(tmp_path):
    """As integers, not all of them fit into a database and an array."""
    path = tmp_path / "metrics.csv"
    path.write_text(f"step,labels\n{10**17},{10**18}\n")
    (row,) = read_metrics(path)
    assert (type(row["step"]), type(row["labels"])) == (int, float)
    assert (row["step"], row["labels"]) == (10**17, 1e18)
