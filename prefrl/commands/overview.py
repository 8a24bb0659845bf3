"""Describe tasks, runs and results for the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefrl.commands.display import clock, details
from prefrl.commands.resuming import obstacle
from prefrl.commands.wording import in_words
from prefrl.config.feedback_shares import feedback_shares
from prefrl.config.schema import HUMAN, NO_TEACHER
from prefrl.experience.clips import ClipFolder
from prefrl.experience.tasks import known_tasks, lack_of
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.run_store import run_store
from prefrl.feedback.usable import unusable_labels
from prefrl.printable import command
from prefrl.recipes import resolve, task_settings
from prefrl.runs.directory import RunDirectory, read_summary
from prefrl.runs.metrics import read_metrics
from prefrl.runs.progress import ENDED, Progress, from_json
from prefrl.runs.symptoms import symptoms


def task_lines() -> list[str]:
    """Describe each task in one line: its id, clip length and recipe, and what it lacks on this machine."""
    lines = []
    for name, facts in known_tasks().items():
        config, people = resolve(name), resolve(name, teacher=HUMAN)
        own = task_settings(facts, "ppo")
        recipe = " ".join(f"{key.removeprefix('agent.')}={value}" for key, value in own.items())
        lines.append(
            f"{name:<16} {facts.env_id:<26} {facts.segment_length:>2}-step clips, {config.queries.labels} labels, "
            f"{config.steps:,} steps ({people.steps:,} with people); ppo {recipe}"
            + (f"; cannot be used: {lack}" if (lack := lack_of(facts)) else "")
        )
    return lines


def run_status(root: Path) -> dict[str, Any]:
    """Return a run's status: its last progress, its labels, and whether it is running."""
    run = RunDirectory.open(root)
    config, said = run.config, run.read_progress()
    now: dict[str, Any] = (said.to_json() | {"state": in_words(said)} if said else {}) | {
        "run": str(root),
        "task": config.task,
        "feedback": config.feedback if config.takes_labels else None,
        "teacher": config.teacher,
        "running": run.running,
        "finished": run.finished,
    }
    if now["finished"]:
        now["state"] = "finished"
        now["summary"] = read_summary(root)
    elif run.summary.exists() and not now["running"]:
        now["state"] = f"its summary.json is damaged; `{command('resume', root)}` rewrites it"
    elif not now["running"]:
        now["state"] = _last_words(said)
    now["obstacle"] = None if now["finished"] or now["running"] else obstacle(run)
    if now["obstacle"]:
        now["state"] = f"cannot be resumed: {now['obstacle']}"
    if config.takes_labels and (run.labels.exists() or run.begun):
        with run_store(run) as store:
            now["label_counts"], now["closed"] = store.counts(), store.closed
            now["labels_unusable"] = len(unusable_labels(store, ClipFolder(run.clips), *config.shares))
            now["labels"] = now["label_counts"]["answered"]  # newer than the last progress
            if config.asks_people:
                queue = LabelQueue(store)
                now["queue"] = queue.waiting() | {"problems": queue.problems()}
        rows = read_metrics(run.metrics) if run.metrics.exists() else []
        now["warnings"] = [symptom.line for symptom in symptoms(config, rows, now["label_counts"])]
    return now


def _last_words(said: Progress | None) -> str:
    """Return the state of a run that is not running."""
    return in_words(said) if said and said.phase in ENDED else "stopped unexpectedly (killed?); resumable"


def status_lines(status: dict[str, Any]) -> list[str]:
    """Describe a run's status in lines for the user."""
    asked = f", feedback {status['feedback']}" if status["feedback"] else ""
    state = status.get("state", "not started")
    lines = [f"{status['run']}: {status['task']}{asked}, teacher {status['teacher']}: {state}"]
    if "phase" in status:
        lines.append(details(from_json(status), None))
    if counts := status.get("label_counts"):
        kinds = (KINDS[name] for name in feedback_shares(status["feedback"]))
        tallies = dict.fromkeys(name for kind in kinds for name in kind.tallies)
        said = ", ".join(f"{counts[name]} {name}" for name in tallies if counts[name])
        lines.append(f"labels: {counts['answered']} answered, {counts['pending']} pending{said and f' ({said})'}")
    if unusable := status.get("labels_unusable"):
        lines.append(f"{unusable} of the labels cannot be used: a clip is missing or damaged, or the answer itself is")
    lines += [f"warning: {line}" for line in status.get("warnings", ())]
    if status.get("closed"):
        lines.append(f"no more labels are asked for; to ask again: {command('resume', status['run'], '--labels', 'N')}")
    if queue := status.get("queue"):
        lines.append(
            f"pairs: {queue['ready']} ready to be labelled ({queue['leased']} of them in a viewer), "
            f"{queue['unrendered']} to be rendered"
        )
        lines += [f"withdrawn: {problem}" for problem in queue["problems"][:3]]
        if more := len(queue["problems"][3:]):
            lines.append(f"withdrawn: {more} more")
        if queue["ready"]:
            lines.append(f"label them with: {command('label', status['run'])}")
    if summary := status.get("summary"):
        lines += return_lines(summary) + behaviour_lines(summary)
    if not status["finished"] and not status["running"] and not status["obstacle"]:
        lines.append(f"resume with: {command('resume', status['run'])}")
    return lines


def return_lines(summary: dict[str, Any]) -> list[str]:
    """Describe the true returns and success rates of a finished run, with their source."""
    kinds = {
        "evaluation_return": f"evaluation: {summary.get('evaluation_episodes')} episodes of the mean action",
        "true_return": "last 100 training episodes",
    }
    lines = []
    for name, of in kinds.items():
        mean, std = summary.get(f"{name}_mean"), summary.get(f"{name}_std")
        if mean is not None:
            spread = "" if std is None else f" ± {std:.1f}"
            lines.append(f"true return {mean:.1f}{spread} ({of})")
    rates = {"evaluation_success_rate": "evaluation", "success_rate": "last 100 training episodes"}
    lines += [f"success rate {summary[name]:.2f} ({of})" for name, of in rates.items() if summary.get(name) is not None]
    return lines


def behaviour_lines(summary: dict[str, Any]) -> list[str]:
    """Describe the behaviour of a finished run's policy in at most one line."""
    words = {
        "policy_entropy": "policy entropy {:.2f} nats",
        "state_entropy": "entropy of the states {:.2f} nats",
        "kl_to_reference": "{:.3g} nats per step from the reference",
        "kl_beta": "KL coefficient {:.3g}",
    }
    told = [text.format(summary[name]) for name, text in words.items() if summary.get(name) is not None]
    return ["; ".join(told)] if told else []


def summary_lines(root: Path, summary: dict[str, Any]) -> list[str]:
    """Describe a finished run's result in lines for the user."""
    took = f" in {clock(summary['wall_seconds'])}" if "wall_seconds" in summary else ""
    lines = [f"{root}: finished {summary['steps']:,} steps{took}"]
    lines += return_lines(summary) + behaviour_lines(summary)
    if summary.get("teacher") != NO_TEACHER and "labels_answered" in summary:
        correlation = summary.get("reward_correlation")
        told = "" if correlation is None else f"; predicted reward correlates {correlation:.2f} with the true one"
        lines.append(f"from {summary['labels_answered']} labels{told}")
    lines += [f"warning: {line}" for line in summary.get("warnings", ())]
    lines.append(f"watch it with: {command('play', root, '--video', root / 'play.mp4')}")
    return lines
