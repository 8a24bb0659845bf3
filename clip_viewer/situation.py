"""Describe the state of a run to a labeller: pure functions from facts to sentences."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from prefrl.commands.wording import in_words
from prefrl.printable import command, printable
from prefrl.runs.progress import ENDED as ENDED_PHASES
from prefrl.runs.progress import Phase, Progress


class Life(StrEnum):
    """State of the agent's process."""

    NOT_STARTED = "not started"
    RUNNING = "running"
    STOPPED = "stopped"
    KILLED = "killed"
    FINISHED = "finished"


class State(StrEnum):
    """What a labeller can do now, or what the run is waiting for."""

    PAIR = "pair"
    STARTING = "starting"
    RENDERING = "rendering"
    WAITING = "waiting"
    OTHERS = "others"
    HALTED = "halted"
    """There is nothing to label, and no running agent that would ask for more."""
    DONE = "done"
    CLOSED = "closed"
    FINISHED = "finished"


PASSING = frozenset({State.STARTING, State.RENDERING, State.WAITING, State.OTHERS})
"""States that end by themselves; their duration is shown."""
ENDED = frozenset({State.CLOSED, State.FINISHED})
"""States in which nobody is asked."""


@dataclass(frozen=True)
class Facts:
    """Facts about a run from its store and its files."""

    root: str
    life: Life
    said: Progress | None = None
    """The last progress report of the agent."""
    answered: int = 0
    budget: int = 0
    has_store: bool = True
    closed: bool = False
    ready: int = 0
    """Open pairs with rendered clips, including leased ones."""
    unrendered: int = 0
    leased: int = 0
    """Pairs leased by any viewer."""
    in_hand: int = 0
    """Pairs leased by this viewer."""
    noun: str = "pair"
    """What people call a query's segments."""


@dataclass(frozen=True)
class Situation:
    """The description shown to a labeller."""

    state: State
    headline: str
    """A short summary."""
    explanation: str
    """The full explanation, shown if there is no pair."""
    notice: str = ""
    """A note about the agent, shown with a pair."""


def life_of(*, running: bool, finished: bool, said: Progress | None) -> Life:
    """Determine the state of the agent's process from its lock, summary and last progress report."""
    if finished:
        return Life.FINISHED
    if running:
        return Life.RUNNING
    if not said:
        return Life.NOT_STARTED
    return Life.STOPPED if said.phase in ENDED_PHASES else Life.KILLED


def state_of(facts: Facts) -> State:
    """Determine the state: the first one whose condition holds."""
    conditions = {
        State.FINISHED: facts.life is Life.FINISHED,
        State.CLOSED: facts.closed,
        State.PAIR: facts.in_hand or facts.ready > facts.leased,
        State.DONE: facts.budget and facts.answered >= facts.budget,
        State.OTHERS: facts.ready,
        State.HALTED: facts.life is not Life.RUNNING,
        State.STARTING: not facts.has_store,
        State.RENDERING: facts.unrendered,
        State.WAITING: True,
    }
    return next(state for state, holds in conditions.items() if holds)


def describe(facts: Facts) -> Situation:
    """Describe the state in sentences."""
    state = state_of(facts)
    headline, explanation = _SENTENCES[state](facts)
    return Situation(state, headline, explanation, _notice(facts) if state is State.PAIR else "")


def _starting(facts: Facts) -> tuple[str, str]:
    return "The run is starting", f"{_agent(facts)} The first clips will appear here."


def _rendering(facts: Facts) -> tuple[str, str]:
    return "Clips are being rendered", f"{_count(facts.unrendered, facts.noun)} will be ready soon. {_agent(facts)}"


def _waiting(facts: Facts) -> tuple[str, str]:
    return (
        "Waiting for the agent",
        f"All {facts.noun}s so far are answered. The agent will ask for more. {_agent(facts)}",
    )


def _others(facts: Facts) -> tuple[str, str]:
    held = f"Other people have the {facts.noun}s that are left ({facts.leased - facts.in_hand})."
    return "Nothing left for you now", f"{held} {_agent(facts)}"


def _halted(facts: Facts) -> tuple[str, str]:
    headline = {
        Life.NOT_STARTED: "The agent is not running",
        Life.STOPPED: "The agent is stopped",
        Life.KILLED: "The agent was killed",
    }[facts.life]
    return headline, _agent(facts)


def _done(facts: Facts) -> tuple[str, str]:
    return "All labels are given", f"All {facts.budget:,} labels are given. {_CLOSE} {_agent(facts)}"


def _closed(facts: Facts) -> tuple[str, str]:
    ended = f"Labelling was finished for everyone, with {facts.answered:,} of {facts.budget:,} labels."
    first = "" if facts.life is not Life.RUNNING else "stop the run and "
    again = f"To ask for labels again, {first}use:\n{resume(facts.root, facts.budget)}"
    return "Labelling is finished", f"{ended} {_agent(facts)}\n{again}"


def _finished(facts: Facts) -> tuple[str, str]:
    kept = f"The run is finished. All answers are kept ({_count(facts.answered, 'label')}). {_CLOSE}"
    return (
        "The run is finished",
        f"{kept} To give it more labels or steps:\n{command('resume', facts.root, '--labels', 'N', '--steps', 'N')}",
    )


def _pair(facts: Facts) -> tuple[str, str]:
    return "Reading the clips", "The next clips are being read."


_CLOSE = "This window can be closed."
_SENTENCES = {
    State.PAIR: _pair,
    State.STARTING: _starting,
    State.RENDERING: _rendering,
    State.WAITING: _waiting,
    State.OTHERS: _others,
    State.HALTED: _halted,
    State.DONE: _done,
    State.CLOSED: _closed,
    State.FINISHED: _finished,
}


def _notice(facts: Facts) -> str:
    if facts.life is not Life.RUNNING:
        return (
            f"{_gone(facts)} You can continue labelling; answers are kept. To restart the agent: {resume(facts.root)}"
        )
    return (
        f"The agent waits for labels: {_count(facts.ready + facts.unrendered, facts.noun)} open."
        if _agent_waits(facts)
        else ""
    )


def _agent(facts: Facts) -> str:
    """What the agent is doing, or how to resume it."""
    if facts.life is Life.RUNNING:
        starting = facts.said is None or facts.said.phase in ENDED_PHASES
        doing = "starting" if starting or facts.said is None else in_words(facts.said)
        return f"The agent is {doing}{_at_step(facts)}."
    kept = f"All answers are kept ({_count(facts.answered, 'label')}). " if facts.has_store else ""
    return f"{_gone(facts)} {kept}Resume it with:\n{resume(facts.root)}"


def _gone(facts: Facts) -> str:
    """Why no process is running."""
    return {
        Life.NOT_STARTED: "No process is at work on the run yet.",
        Life.STOPPED: f"The agent was stopped{_why(facts)}{_at_step(facts)}.",
        Life.KILLED: f"The agent was killed{_at_step(facts)}: its process is gone.",
        Life.FINISHED: "The agent has finished.",
    }[facts.life]


def _why(facts: Facts) -> str:
    """The error that ended the agent, in brackets; empty if there is none."""
    return f" ({printable(facts.said.problem, 200)!r})" if facts.said and facts.said.problem else ""


def _agent_waits(facts: Facts) -> bool:
    return facts.said is not None and facts.said.phase is Phase.WAITING


def _at_step(facts: Facts) -> str:
    said = facts.said
    return f" at step {said.step:,} of {said.steps:,}" if said and said.steps else ""


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def resume(root: str, labels: int | None = None) -> str:
    """The command that resumes a run."""
    return command("resume", root, *(() if labels is None else ("--labels", labels)))
