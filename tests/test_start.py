"""Ctrl-C while the command itself is still being imported."""

import os
import subprocess
import sys

import pytest
from runs import DEADLINE

WHILE_IMPORTING = """
import os, signal, sys, time
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "prefrl.commands.cli":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep({seconds})
sys.meta_path.insert(0, Finder())
{before}
sys.argv = ["prefrl", "--help"]
from prefrl.commands.start import main
main()
"""
SWALLOWED = """
class Finder(Finder):  # an import calls it where Python prints exceptions, and goes on
    def find_spec(self, name, path, target=None):
        try:
            super().find_spec(name, path, target)
        except BaseException:
            pass
sys.meta_path.insert(0, Finder())
"""


def ran(before="", seconds=5):
    script = WHILE_IMPORTING.format(before=before, seconds=seconds)
    return subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=os.environ | {"COLUMNS": "100"},
    )


@pytest.mark.skipif(os.name != "posix", reason="a process cannot send itself Ctrl-C")
@pytest.mark.parametrize("before", ["", SWALLOWED])
def test_an_interrupt_ends_it_in_one_line(before):
    done = ran(before)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "prefrl: stopped\n")


@pytest.mark.skipif(os.name != "posix", reason="a process cannot send itself Ctrl-C")
def test_an_interrupt_that_the_shell_ignores_is_ignored():
    """A shell starts its background jobs so."""
    done = ran("signal.signal(signal.SIGINT, signal.SIG_IGN)", seconds=0)
    assert done.returncode == 0
    assert "usage: prefrl" in done.stdout


def test_the_command_has_ctrl_c_of_its_own_once_it_runs():
    script = (
        "import signal, sys; import prefrl.commands.start as start\n"
        "import prefrl.commands.cli as cli\n"
        "cli.main = lambda: print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
        "start.main()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
