"""Commands that other packages add to `prefrl`: the entry points of the group `prefrl.commands`.

The group `prefrl.windows` has the windows that `prefrl`'s own commands open.

An entry point of a command names a function or a `tyro.extras.SubcommandApp`. It is loaded at every start,
`prefrl --help` included, so its module must import anything slow inside the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from tyro.extras import SubcommandApp

from prefrl.errors import PrefrlError, explain
from prefrl.printable import LONGEST_LINE, complain, printable

GROUP = "prefrl.commands"
_WINDOWS = "prefrl.windows"


def mount_plugins(app: SubcommandApp) -> None:
    """Add every installed command; one that cannot be loaded is reported and skipped.

    Args:
        app: The command line. Commands that are added to it later replace plugins of the same name.
    """
    for entry_point in entry_points(group=GROUP):
        try:
            _mount(app, entry_point)
        except Exception as error:  # any package may be installed: a broken one must not break the others
            line = f"prefrl: the command {entry_point.name} ({entry_point.value}) cannot be loaded: {explain(error)}"
            complain(printable(line, LONGEST_LINE))


def window(name: str) -> Callable[..., None]:
    """Return the function that opens a window.

    Raises:
        PrefrlError: if no package offers it.
    """
    for entry_point in entry_points(group=_WINDOWS, name=name):
        opens: Callable[..., None] = entry_point.load()
        return opens
    raise PrefrlError(f"no installed package offers the window {name}: reinstall prefrl")


def _mount(app: SubcommandApp, entry_point: EntryPoint) -> None:
    """Add one command. The help of a nested app is the first line of its module's docstring."""
    target = entry_point.load()
    if not callable(target) and not isinstance(target, SubcommandApp):
        raise TypeError("it is not a function")
    if isinstance(target, SubcommandApp):
        about = sys.modules[entry_point.module].__doc__ or ""
        app.command(target, name=entry_point.name, help=about.partition("\n")[0])
    else:
        app.command(name=entry_point.name)(target)
