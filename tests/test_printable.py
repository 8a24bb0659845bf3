"""What others wrote is shown on one line, and a terminal acts on none of it."""

import shlex
import unicodedata

import pytest

from prefrl.printable import LIMIT, command, printable, say


@pytest.mark.parametrize("text", ["cheetah", "Grüße an Łukasz", "走る犬", "naïve e\u0301", "100 % [red] \\ 'x'", ""])
def test_names_of_every_script_stay_as_they_are(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("one\ntwo\rthree\tfour", r"one\ntwo\rthree\tfour"),
        ("\x85next\u2028line\u2029end", r"\x85next\u2028line\u2029end"),
        ("abc\u202eexe.txt\u2066", r"abc\u202eexe.txt\u2066"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("lone \ud800 surrogate \udcff", r"lone \ud800 surrogate \udcff"),
        ("\x00\x7f\x9b31m", r"\x00\x7f\x9b31m"),
        ("\U000e0041 tag", r"\U000e0041 tag"),
        ("no\xa0break", r"no\xa0break"),
    ],
)
def test_what_a_terminal_acts_on_is_escaped(text, shown):
    assert printable(text) == shown


def test_no_code_point_leaves_a_control_or_what_cannot_be_encoded():
    shown = "".join(printable(chr(point)) for point in range(0x110000))
    shown.encode("utf-8")
    assert {unicodedata.category(c) for c in set(shown)}.isdisjoint({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def test_length_is_bounded_and_the_cut_is_seen():
    assert printable("a" * LIMIT) == "a" * LIMIT
    assert printable("a" * (LIMIT + 1)) == "a" * (LIMIT - 1) + "…"
    assert printable("\x1b" * 10**6, limit=10) == r"\x1b\x1b\…"
    assert len(printable("é\n" * 10**6)) == LIMIT


def test_what_is_no_text_is_shown_as_text():
    assert printable(7) == "7"
    assert printable(ValueError("two\nlines")) == r"two\nlines"


def test_a_line_stays_one_line(capsys):
    say(["run: reacher", "given by: Ann\nlabels: 700 answered\x1b[2J"])
    assert capsys.readouterr().out.splitlines() == ["run: reacher", r"given by: Ann\nlabels: 700 answered\x1b[2J"]


def test_a_command_to_copy_does_what_it_says_and_nothing_else():
    assert command("resume", "runs/cheetah", "--labels", "N") == "prefrl resume runs/cheetah --labels N"
    for name in ("$(reboot)", "a b; rm -rf ~", "`id`", "it's", "x\nreboot", "\x1b]0;t\x07"):
        words = shlex.split(command("resume", name))
        assert words == ["prefrl", "resume", printable(name)]
        assert len(command("resume", name).splitlines()) == 1
