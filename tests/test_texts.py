"""Number formats of reports."""

import math

import pytest
from prefrl_benchmarks.report.texts import number_text, ranged


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0.00"),
        (0.7512, "0.75"),
        (-3.14159, "−3.14"),
        (3216.4, "3,216"),
        (700, "700"),
    ],
)
def test_numbers_for_people(value, text):
    assert number_text(value) == text


def test_an_interval_is_shown_where_there_is_one():
    assert ranged({"IQM": 0.5, "IQM low": 0.4, "IQM high": 0.6}, "IQM") == "0.50 (0.40 to 0.60)"
    assert ranged({"IQM": 0.5, "IQM low": math.nan, "IQM high": math.nan}, "IQM") == "0.50"
