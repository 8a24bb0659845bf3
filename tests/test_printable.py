"""Text from others is printed on one line without terminal control sequences."""

import ast
import pickle
import shlex
import unicodedata
from pathlib import Path

import pytest

from prefrl.errors import DamagedFileError, PrefrlError, UsageError, explain
from prefrl.printable import LIMIT, LONGEST_LINE, command, printable, say

ROOT = Path(__file__).parents[1]
SAFE = {"printable", "command", "_told", "len", "dumps"}
"""Functions whose results a terminal does not act on."""


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


def test_printed_commands_can_be_copied_safely():
    assert command("resume", "runs/cheetah", "--labels", "N") == "prefrl resume runs/cheetah --labels N"
    for name in ("$(reboot)", "a b; rm -rf ~", "`id`", "it's", "x\nreboot", "\x1b]0;t\x07"):
        words = shlex.split(command("resume", name))
        assert words == ["prefrl", "resume", printable(name)]
        assert len(command("resume", name).splitlines()) == 1


# -- every message of the product -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PrefrlError, UsageError, DamagedFileError])
def test_an_error_is_one_line_whatever_path_or_name_is_in_it(kind):
    error = kind("/tmp/a\nprefrl: all is well\x1b[2J\udcff: no such file")
    assert str(error) == explain(error) == r"/tmp/a\nprefrl: all is well\x1b[2J\udcff: no such file"
    assert str(kind(str(error))) == str(error)  # an error that quotes another does not escape it twice
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(str(kind("x" * 10**6))) == LONGEST_LINE


def product_files():
    folders = ("prefrl", "clip_viewer", "envs", "benchmarks")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_no_error_of_the_product_is_made_another_way():
    for path in product_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and node.name != "PrefrlError":
                assert not any(getattr(each, "name", "") in {"__init__", "__str__"} for each in node.body), path


def shows_safely(node):
    """Whether an expression gives text that a terminal does not act on."""
    if isinstance(node, ast.Call):
        return (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")) in SAFE
    if isinstance(node, ast.JoinedStr):
        return all(shows_safely(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        numeric = node.format_spec is not None and ast.unparse(node.format_spec).rstrip("'\"")[-1:] in "dfg"
        return numeric or shows_safely(node.value)
    # names of modules' own constants, and what is known to be text of ours
    return isinstance(node, ast.Constant) or ast.unparse(node) in {"hint", "UNGUARDED", "shown[0].shape"}


def test_every_line_that_is_printed_is_made_printable():
    """`say` does it; a plain `print` shows nothing but what was made so."""
    strange = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in product_files()
        if path.name != "printable.py"  # which defines it
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", "") == "print" or ast.unparse(node.func) in {"sys.stderr.write", "warnings.warn"})
        and not all(shows_safely(argument) for argument in node.args)
    ]
    assert strange == []
