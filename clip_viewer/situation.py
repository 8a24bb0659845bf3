"""What is going on with a run, and what a labeller is told of it: pure functions from facts to sentences."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from prefrl.commands.wording import in_words
from prefrl.printable import command, printable
from prefrl.runs.progress import ENDED as ENDED_PHASES
from prefrl.runs.progress import Phase, Progress


class Life(StrEnum):
    """What became of the agent's process."""

    NOT_STARTED = "not started"
    RUNNING = "running"
    STOPPED = "stopped"
    KILLED = "killed"
    FINISHED = "finished"


class State(StrEnum):
    """What a labeller can do now, and what is waited for where that is nothing."""

    PAIR = "pair"
    STARTING = "starting"
    RENDERING = "rendering"
    WAITING = "waiting"
    OTHERS = "others"
    HALTED = "halted"
    """There is nothing to label, and no agent that would ask for more."""
    DONE = "done"
    CLOSED = "closed"
    FINISHED = "finished"


PASSING = frozenset({State.STARTING, State.RENDERING, State.WAITING, State.OTHERS})
"""States that end by themselves, so that it matters how long they have lasted."""
ENDED = frozenset({State.CLOSED, State.FINISHED})
"""States in which nobody is asked anything."""


@dataclass(frozen=True)
class Facts:
    """What is known of a run, from its store and its files."""

    root: str
    life: Life
    said: Progress | None = None
    """What the agent last said of itself."""
    answered: int = 0
    budget: int = 0
    has_store: bool = True
    closed: bool = False
    ready: int = 0
    """Open pairs whose clips are there, those in somebody's hand included."""
    unrendered: int = 0
    leased: int = 0
    """Pairs in anybody's hand."""
    in_hand: int = 0
    """Pairs in this viewer's hand."""


@dataclass(frozen=True)
class Situation:
    """What a labeller is told."""

    state: State
    headline: str
    """A few words."""
    explanation: str
    """The whole of it, where there is no pair to show."""
    notice: str = ""
    """What there is to be known of the agent while a pair is shown."""


def life_of(*, running: bool, finished: bool, said: Progress | None) -> Life:
    """What became of the agent's process, by its lock, its summary and its last words."""
    if finished:
        return Life.FINISHED
    if running:
        return Life.RUNNING
    if not said:
        return Life.NOT_STARTED
    return Life.STOPPED if said.phase in ENDED_PHASES else Life.KILLED


def state_of(facts: Facts) -> State:
    """The state that the facts amount to: the first whose condition holds."""
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
    """The state, in sentences."""
    state = state_of(facts)
    headline, explanation = _SENTENCES[state](facts)
    return Situation(state, headline, explanation, _notice(facts) if state is State.PAIR else "")


def _starting(facts: Facts) -> tuple[str, str]:
    return "The run is starting", f"{_agent(facts)} The first clips will appear here."


def _rendering(facts: Facts) -> tuple[str, str]:
    return "Clips are being rendered", f"{_count(facts.unrendered, 'pair')} will be ready soon. {_agent(facts)}"


def _waiting(facts: Facts) -> tuple[str, str]:
    return (
        "Waiting for the agent",
        f"All pairs so far are dealt with; the agent asks for more as it goes. {_agent(facts)}",
    )


def _others(facts: Facts) -> tuple[str, str]:
    held = f"Other people have the pairs that are left ({facts.leased - facts.in_hand})."
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
        return f"{_gone(facts)} You can label on; answers are kept. To start it again: {resume(facts.root)}"
    return (
        f"The agent waits for labels: {_count(facts.ready + facts.unrendered, 'pair')} open."
        if _agent_waits(facts)
        else ""
    )


def _agent(facts: Facts) -> str:
    """What the agent does now; or that it does nothing, that answers are kept, and how to go on."""
    if facts.life is Life.RUNNING:
        starting = facts.said is None or facts.said.phase in ENDED_PHASES
        doing = "starting" if starting or facts.said is None else in_words(facts.said)
        return f"The agent is {doing}{_at_step(facts)}."
    kept = f"All answers are kept ({_count(facts.answered, 'label')}). " if facts.has_store else ""
    return f"{_gone(facts)} {kept}Go on with:\n{resume(facts.root)}"


def _gone(facts: Facts) -> str:
    """Why no process is at work on the run."""
    return {
        Life.NOT_STARTED: "No process is at work on the run yet.",
        Life.STOPPED: f"The agent was stopped{_why(facts)}{_at_step(facts)}.",
        Life.KILLED: f"The agent was killed{_at_step(facts)}: its process is gone.",
        Life.FINISHED: "The agent has finished.",
    }[facts.life]


def _why(facts: Facts) -> str:
    """The reason that the agent gave for its end, in brackets; nothing where it gave none."""
    return f" ({printable(facts.said.problem, 200)!r})" if facts.said and facts.said.problem else ""


def _agent_waits(facts: Facts) -> bool:
    return facts.said is not None and facts.said.phase is Phase.WAITING


def _at_step(facts: Facts) -> str:
    said = facts.said
    return f" at step {said.step:,} of {said.steps:,}" if said and said.steps else ""


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def resume(root: str, labels: int | None = None) -> str:
    """The command that goes on with a run, as it can be typed."""
    return command("resume", root, *(() if labels is None else ("--labels", labels)))
