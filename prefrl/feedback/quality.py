"""How good people's labels are: agreement with themselves, with one another, and with the task's own reward."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import krippendorff
import numpy as np
import sqlalchemy as sa

from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.answers import damaged
from prefrl.feedback.database import REPEATS, STANDING, segments_of
from prefrl.feedback.kinds import KINDS, FeedbackKind, from_json
from prefrl.feedback.run_store import run_store
from prefrl.feedback.store import LabelStore
from prefrl.feedback.transfer import asked_kind
from prefrl.runs.directory import RunDirectory

_NAMED = 10
"""Answers that a line names at most."""


class Given(NamedTuple):
    """One standing answer of a person."""

    unit: int
    """The query that was asked first; a repeat has that of what it repeats."""
    repeat: bool
    labeller: str
    value: Any
    """As it was said: of the segments in the order shown."""
    seconds: float | None
    """Response time."""
    agrees: bool | None
    """Whether the task's own reward says the same; None where that is not known, or it prefers nothing."""
    kind: FeedbackKind
    id: int = 0
    """The answer's."""

    @property
    def meant(self) -> Any:
        """The value for the segments in the order in which they were asked about first."""
        return self.kind.reverse(self.value) if self.repeat else self.value

    @property
    def counts(self) -> bool:
        """Whether it says something of the segments."""
        return self.kind.counts(self.value)


def self_consistency(answers: Sequence[Given]) -> tuple[float | None, int]:
    """Share of repeats that were judged by the same person as before, and how many such repeats there are.

    Answers that do not count, as "can't tell", are left out.
    """
    first = {(a.labeller, a.unit): a.meant for a in answers if not a.repeat and a.counts}
    again = [a for a in answers if a.repeat and a.counts and (a.labeller, a.unit) in first]
    same = [a.meant == first[a.labeller, a.unit] for a in again]
    return (float(np.mean(same)) if same else None), len(same)


def agreement(answers: Sequence[Given]) -> tuple[float | None, int]:
    """Krippendorff's alpha between labellers in answers of one kind, and how many queries several have answered.

    1 is perfect agreement, 0 what chance gives. None where no query was answered by two people, or where all that
    was ever said is the same.
    """
    said: dict[int, dict[str, float]] = defaultdict(dict)
    for answer in answers:
        if answer.counts:
            said[answer.unit].setdefault(answer.labeller, answer.kind.code(answer.meant))
    shared = [by for by in said.values() if len(by) > 1]
    labellers = sorted({labeller for by in shared for labeller in by})
    table = np.array([[by.get(labeller, np.nan) for by in shared] for labeller in labellers], dtype=float)
    if not shared or len(np.unique(table[~np.isnan(table)])) < 2:
        return None, len(shared)
    level = answers[0].kind.level
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level)), len(shared)


def hasty(answers: Sequence[Given], clip_seconds: float) -> list[int]:
    """The ids of answers that were given before the clips had been shown once at their own speed."""
    return [answer.id for answer in answers if answer.seconds is not None and answer.seconds < clip_seconds]


def figures(kind: FeedbackKind, answers: Sequence[Given], clip_seconds: float = 0.0) -> dict[str, Any]:
    """What can be said of answers of one kind, one person's or everybody's; None where there is nothing to say it from.

    Args:
        kind: The kind.
        answers: The answers.
        clip_seconds: How long a clip lasts.
    """
    seconds = [answer.seconds for answer in answers if answer.seconds is not None]
    consistency, repeats = self_consistency(answers)
    return {
        "answers": len(answers),
        **kind.rates([answer.value for answer in answers]),
        "seconds_median": float(np.median(seconds)) if seconds else None,
        "seconds_90th": float(np.quantile(seconds, 0.9)) if seconds else None,
        "hasty": len(hasty(answers, clip_seconds)) if seconds else None,
        "repeats": repeats,
        "self_consistency": consistency,
        "agrees_with_reward": _share([answer.agrees for answer in answers if answer.agrees is not None]),
    }


def report(root: Path) -> dict[str, Any]:
    """The figures of a run's labels of the kind that it asks for: everybody's, each labeller's, and their agreement.

    Raises:
        UsageError: if the folder is no run.
        PrefrlError: if the run has no labels yet, or its files are damaged.
    """
    run = RunDirectory.open(root)
    if not run.labels.exists():
        raise PrefrlError(f"{root} has no labels yet")
    kind = KINDS[asked_kind(run.config)]
    with run_store(run) as store:
        answers, late = read_answers(store, ClipFolder(run.clips), kind), store.late_answers()
    alpha, shared = agreement(answers)
    lasts = run.config.queries.segment_length / run.config.playback_fps
    by = {name: [a for a in answers if a.labeller == name] for name in sorted({a.labeller for a in answers})}
    return {
        "run": str(root),
        "kind": kind.name,
        "clip_seconds": lasts,
        "all": figures(kind, answers, lasts),
        "labellers": {name: figures(kind, own, lasts) for name, own in by.items()},
        "hasty_answers": hasty(answers, lasts),
        "krippendorff_alpha": alpha,
        "pairs_judged_by_several": shared,
        "late_answers": late,
    }


def read_answers(store: LabelStore, clips: ClipFolder, kind: FeedbackKind) -> list[Given]:
    """The standing answers of a kind, in order; synthetic teachers count as labellers of their name."""
    repeats = sa.outerjoin(STANDING, REPEATS, REPEATS.c.query_id == STANDING.c.query_id)
    query = sa.select(STANDING, REPEATS.c.original_id).select_from(repeats).order_by(STANDING.c.id)
    query = query.where(STANDING.c.kind == kind.name)
    with store.database.read() as connection:
        rotten, about = damaged(connection), segments_of(connection)
        rows = [row for row in connection.execute(query) if row.id not in rotten]
    totals: dict[int, float | None] = {}
    answers = []
    for row in rows:
        segments = about[row.query_id]
        for segment in segments:
            if segment not in totals:
                totals[segment] = _total(clips, segment)
        returns = [total for segment in segments if (total := totals[segment]) is not None]
        value = from_json(kind, row.value)
        agrees = kind.agrees(value, returns) if len(returns) == len(segments) else None
        unit, name = row.original_id or row.query_id, row.labeller or row.teacher
        answers.append(
            Given(unit, row.original_id is not None, name, value, row.response_seconds, agrees, kind, row.id)
        )
    return answers


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report for a person: a line a labeller."""
    kind = KINDS[report["kind"]]
    titles = kind.rate_titles
    names = ("answers", *titles.values(), "median s", "90 % s", "hasty", "repeats", "consistent", "as reward")
    width = max(8, *(len(name) for name in report["labellers"])) if report["labellers"] else 8
    lines = [f"{'labeller':<{width}}" + "".join(f"{name:>12}" for name in names)]
    for name, found in [*report["labellers"].items(), ("all", report["all"])]:
        rates = [_percent(found[key]) for key in titles]
        times = ["-" if found[key] is None else f"{found[key]:.1f}" for key in ("seconds_median", "seconds_90th")]
        kept = [_percent(found["self_consistency"]), _percent(found["agrees_with_reward"])]
        quick = "-" if found["hasty"] is None else str(found["hasty"])
        cells = [str(found["answers"]), *rates, *times, quick, str(found["repeats"]), *kept]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
    alpha, shared = report["krippendorff_alpha"], report["pairs_judged_by_several"]
    told = f"{alpha:.2f} over {shared} queries" if alpha is not None else f"- ({shared} queries with several answers)"
    late = report["late_answers"]
    return [
        *lines,
        f"agreement between labellers (Krippendorff's alpha; 1 perfect, 0 chance): {told}",
        *_hasty_lines(report["hasty_answers"], report["clip_seconds"]),
        *([f"late: {late} answers to queries that had been answered; they are kept, and not used"] if late else []),
        f"{kind.rate_legend}consistent: repeats that were answered as before; as reward: answers that the task's own "
        "reward agrees with",
    ]


def _hasty_lines(ids: Sequence[int], clip_seconds: float) -> list[str]:
    """Which answers to look at again."""
    if not ids:
        return []
    named = ", ".join(map(str, ids[:_NAMED])) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
    return [f"hasty: answers given in less time than a clip lasts ({clip_seconds:g} s): {named}"]


def _total(clips: ClipFolder, segment: int) -> float | None:
    try:
        return float(clips.load(segment)[1].sum())
    except PrefrlError:
        return None  # a clip that is gone says nothing; the label is a label all the same


def _share(values: Sequence[bool]) -> float | None:
    return float(np.mean(values)) if values else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
