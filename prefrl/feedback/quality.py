"""How good people's labels are: agreement with themselves, with one another, and with the task's own reward."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import krippendorff
import numpy as np
import sqlalchemy as sa

from prefrl.clips import ClipFolder
from prefrl.errors import PrefrlError
from prefrl.feedback.answers import damaged
from prefrl.feedback.database import LABELS, QUERIES, REPEATS
from prefrl.feedback.store import LabelStore
from prefrl.run import RunDirectory
from prefrl.types import Judgement

_SWAPPED = {Judgement.LEFT: Judgement.RIGHT, Judgement.RIGHT: Judgement.LEFT}
_NAMED = 10
"""Answers that a line names at most."""
_VALUES = (Judgement.LEFT, Judgement.RIGHT, Judgement.EQUAL)


class Given(NamedTuple):
    """One standing answer of a person."""

    unit: int
    """The query that was asked first about this pair; a repeat has that of what it repeats."""
    repeat: bool
    labeller: str
    judgement: Judgement
    """As it was said: of the sides as they were shown."""
    seconds: float | None
    """Response time."""
    prefers: Judgement | None
    """What the task's own reward says of the sides as they were shown; None where that is not known."""
    id: int = 0
    """The answer's."""

    @property
    def meant(self) -> Judgement:
        """The judgement with the sides as they were when the pair was asked first."""
        return _SWAPPED.get(self.judgement, self.judgement) if self.repeat else self.judgement


def self_consistency(answers: Sequence[Given]) -> tuple[float | None, int]:
    """Share of repeats that were judged by the same person as before, and how many such repeats there are.

    Answers "can't tell" are left out.
    """
    first = {(a.labeller, a.unit): a.meant for a in answers if not a.repeat and a.meant in _VALUES}
    again = [a for a in answers if a.repeat and a.meant in _VALUES and (a.labeller, a.unit) in first]
    same = [a.meant == first[a.labeller, a.unit] for a in again]
    return (float(np.mean(same)) if same else None), len(same)


def agreement(answers: Sequence[Given]) -> tuple[float | None, int]:
    """Krippendorff's alpha between labellers (nominal: left, right, equal), and how many pairs several have judged.

    1 is perfect agreement, 0 what chance gives. None where no pair has been judged by two people, or where all that
    was ever said is the same.
    """
    said: dict[int, dict[str, int]] = defaultdict(dict)
    for answer in answers:
        if answer.meant in _VALUES:
            said[answer.unit].setdefault(answer.labeller, _VALUES.index(answer.meant))
    shared = [by for by in said.values() if len(by) > 1]
    labellers = sorted({labeller for by in shared for labeller in by})
    table = np.array([[by.get(labeller, np.nan) for by in shared] for labeller in labellers], dtype=float)
    if not shared or len(np.unique(table[~np.isnan(table)])) < 2:
        return None, len(shared)
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal")), len(shared)


def hasty(answers: Sequence[Given], clip_seconds: float) -> list[int]:
    """The ids of answers that were given before the clips had been shown once at their own speed."""
    return [answer.id for answer in answers if answer.seconds is not None and answer.seconds < clip_seconds]


def figures(answers: Sequence[Given], clip_seconds: float = 0.0) -> dict[str, Any]:
    """What can be said of answers, be they one person's or everybody's; None where there is nothing to say it from.

    Args:
        answers: The answers.
        clip_seconds: How long a clip lasts.
    """
    told = [answer for answer in answers if answer.judgement in _VALUES]
    sides = [answer for answer in told if answer.judgement is not Judgement.EQUAL]
    seconds = [answer.seconds for answer in answers if answer.seconds is not None]
    checked = [answer.judgement is answer.prefers for answer in sides if answer.prefers is not None]
    consistency, repeats = self_consistency(answers)
    return {
        "answers": len(answers),
        "equal_rate": _share([answer.judgement is Judgement.EQUAL for answer in told]),
        "incomparable_rate": _share([answer.judgement not in _VALUES for answer in answers]),
        "left_rate": _share([answer.judgement is Judgement.LEFT for answer in sides]),
        "seconds_median": float(np.median(seconds)) if seconds else None,
        "seconds_90th": float(np.quantile(seconds, 0.9)) if seconds else None,
        "hasty": len(hasty(answers, clip_seconds)) if seconds else None,
        "repeats": repeats,
        "self_consistency": consistency,
        "agrees_with_reward": _share(checked),
    }


def report(root: Path) -> dict[str, Any]:
    """The figures of a run's labels: everybody's, each labeller's, and the agreement between them.

    Raises:
        UsageError: if the folder is no run.
        PrefrlError: if the run has no labels yet, or its files are damaged.
    """
    run = RunDirectory.open(root)
    if not run.labels.exists():
        raise PrefrlError(f"{root} has no labels yet")
    store = LabelStore(run.labels)
    answers, late = read_answers(store, ClipFolder(run.clips)), store.late_answers()
    store.close()
    alpha, shared = agreement(answers)
    lasts = run.config.queries.segment_length / run.config.playback_fps
    by = {name: [a for a in answers if a.labeller == name] for name in sorted({a.labeller for a in answers})}
    return {
        "run": str(root),
        "clip_seconds": lasts,
        "all": figures(answers, lasts),
        "labellers": {name: figures(own, lasts) for name, own in by.items()},
        "hasty_answers": hasty(answers, lasts),
        "krippendorff_alpha": alpha,
        "pairs_judged_by_several": shared,
        "late_answers": late,
    }


def read_answers(store: LabelStore, clips: ClipFolder) -> list[Given]:
    """The standing answers, in order; synthetic teachers count as labellers of their name."""
    joined = sa.join(LABELS, QUERIES, LABELS.c.query_id == QUERIES.c.id).join(
        REPEATS, REPEATS.c.query_id == QUERIES.c.id, isouter=True
    )
    columns = (QUERIES.c.id, QUERIES.c.segment_left, QUERIES.c.segment_right, REPEATS.c.original_id)
    said = (LABELS.c.judgement, LABELS.c.teacher, LABELS.c.labeller, LABELS.c.response_seconds, LABELS.c.id)
    with store.database.read() as connection:
        rotten = damaged(connection)
        given = connection.execute(sa.select(*columns, *said).select_from(joined).order_by(LABELS.c.id))
        rows = [row for row in given if row[-1] not in rotten]
    totals: dict[int, float | None] = {}
    answers = []
    for query_id, left, right, original, judgement, teacher, labeller, seconds, number in rows:
        for segment in (left, right):
            if segment not in totals:
                totals[segment] = _total(clips, segment)
        prefers = _preferred(totals[left], totals[right])
        unit, name = original or query_id, labeller or teacher
        answers.append(Given(unit, original is not None, name, Judgement(judgement), seconds, prefers, number))
    return answers


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report for a person: a line a labeller."""
    names = (
        "answers",
        "equal",
        "can't tell",
        "left",
        "median s",
        "90 % s",
        "hasty",
        "repeats",
        "consistent",
        "as reward",
    )
    width = max(8, *(len(name) for name in report["labellers"])) if report["labellers"] else 8
    lines = [f"{'labeller':<{width}}" + "".join(f"{name:>12}" for name in names)]
    for name, found in [*report["labellers"].items(), ("all", report["all"])]:
        rates = [_percent(found[key]) for key in ("equal_rate", "incomparable_rate", "left_rate")]
        times = ["-" if found[key] is None else f"{found[key]:.1f}" for key in ("seconds_median", "seconds_90th")]
        kept = [_percent(found["self_consistency"]), _percent(found["agrees_with_reward"])]
        quick = "-" if found["hasty"] is None else str(found["hasty"])
        cells = [str(found["answers"]), *rates, *times, quick, str(found["repeats"]), *kept]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
    alpha, shared = report["krippendorff_alpha"], report["pairs_judged_by_several"]
    told = f"{alpha:.2f} over {shared} pairs" if alpha is not None else f"- ({shared} pairs judged by several people)"
    late = report["late_answers"]
    return [
        *lines,
        f"agreement between labellers (Krippendorff's alpha; 1 perfect, 0 chance): {told}",
        *_hasty_lines(report["hasty_answers"], report["clip_seconds"]),
        *([f"late: {late} answers to pairs that had been answered; they are kept, and not used"] if late else []),
        "left: of the answers that prefer a side; consistent: repeats that were answered as before; as reward: answers "
        "that the task's own reward agrees with",
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


def _preferred(left: float | None, right: float | None) -> Judgement | None:
    if left is None or right is None or left == right:
        return None
    return Judgement.LEFT if left > right else Judgement.RIGHT


def _share(values: Sequence[bool]) -> float | None:
    return float(np.mean(values)) if values else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
