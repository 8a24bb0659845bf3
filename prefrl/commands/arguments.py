"""Shared argument types, and one-line messages for invalid arguments.

By default, tyro reports invalid arguments in a box of many lines. The hook for other messages is not part of its stable
API. If a version of tyro lacks the hook or has other names, its own message is shown.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import tyro
from tyro.conf import UseAppendAction, arg

from prefrl.errors import UsageError

PROGRAM = "prefrl"
Trust = Annotated[UseAppendAction[tuple[str, ...]], arg(name="trust", metavar="MODULE")]
"""Modules that the user trusts; the option can be repeated."""
_REASONS = {
    r"invalid literal for int\(\) with base 10: (.*)": r"\1 is not a whole number",
    r"could not convert string to float: (.*)": r"\1 is not a number",
    r"Could not find valid parse for arguments: \[(.*)\]": r"\1 cannot be read",
}
"""Messages of Python and tyro about a value, and their replacements."""


_PAIRS = ("--set", "--env-kwargs")
"""Options that take any number of values."""


def gathered(arguments: Sequence[str]) -> list[str]:
    """Append the values of an option in `_PAIRS` to its first occurrence. Otherwise, only the last one would count."""
    values: dict[str, list[str]] = {}
    collected: list[list[str]] = [[]]
    for word in _apart(arguments):
        if word in values:
            collected.append(values[word])
        elif word.startswith("--"):
            collected.append([word])
            if word in _PAIRS:
                values[word] = collected[-1]
        else:
            collected[-1].append(word)
    unique = {id(words): words for words in collected}
    return [word for words in unique.values() for word in words]


def _apart(arguments: Sequence[str]) -> Iterator[str]:
    """Write OPTION=VALUE as two words for the options in `_PAIRS`."""
    for word in arguments:
        option, equals, value = word.partition("=")
        yield from (option, value) if equals and option in _PAIRS else (word,)


@contextlib.contextmanager
def refused_in_one_line(app: tyro.extras.SubcommandApp, arguments: Sequence[str]) -> Iterator[None]:
    """Raise UsageError for arguments that are invalid for `app`."""
    try:
        from tyro._errors import on_parse_error  # noqa: PLC0415 - may be missing in other versions
    except ImportError:
        yield
        return

    def refuse(event: Any) -> None:
        with on_parse_error(lambda _: None):  # not while help texts are collected
            command, names = _help(app, [word for word in arguments if not word.startswith("-")])
        if line := _explained(event, names):
            raise UsageError(f"{line}; see `{command} --help`")

    with on_parse_error(refuse):
        yield


def _explained(event: Any, names: list[str]) -> str | None:
    said = None
    match type(event).__name__:
        case "UnrecognizedArgs":
            unknown = next((token for token in event.tokens if token.startswith("-")), event.tokens[0])
            near = difflib.get_close_matches(unknown, names, 1)
            kind = "option" if unknown.startswith("-") else "command or argument"
            said = f"there is no {kind} {unknown}" + (f": did you mean {near[0]}?" if near else "")
        case "MissingArgs":
            missing = [_name(each.arg) for each in event.missing_arguments]
            said = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        case "MissingSubcommand":
            known = ", ".join(name for name in event.subcommand_spec.parser_from_name if name)
            said = f"a command is missing: {known}"
        case "BadValue":
            said = f"{_name(event.argument)} needs a value"
        case "InvalidChoice":
            said = f"{_name(event.argument)} cannot be {event.value}: it is one of {', '.join(event.choices)}"
        case "InstantiationFailure" if event.argument is not None:
            # If several types were tried, e.g. None and a number, the last line is the reason of the last type.
            reason = re.sub(r"^- <[^>]*>: ", "", event.message.strip().splitlines()[-1])
            for pattern, ours in _REASONS.items():
                reason = re.sub(pattern, ours, reason)
            said = f"{_name(event.argument)}: {reason}"
    return said


def _name(argument: Any) -> str:
    """Return the name of an argument on the command line."""
    if argument.is_positional():
        return f"the argument {argument.field.intern_name.replace('_', '-').upper()}"
    return str(argument.lowered.name_or_flags[-1])


def _help(app: tyro.extras.SubcommandApp, words: list[str]) -> tuple[str, list[str]]:
    """Return the command that the words call, and the names of its subcommands and options."""
    text = io.StringIO()
    for known in range(len(words), -1, -1):
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
            try:
                app.cli(args=[*words[:known], "--help"], prog=PROGRAM)
            except SystemExit as end:
                if end.code == 0:
                    break
    called = re.search(rf"usage: ({PROGRAM}[ a-z-]*[a-z]|{PROGRAM})", text.getvalue())
    names = re.findall(r"(?<![\w-])--[a-z][a-z-]+|(?<=• )[a-z][a-z-]+", text.getvalue())
    return called[1] if called else PROGRAM, names
