"""The quality of people's labels: consistency, agreement between labellers, and agreement with the true reward."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import krippendorff
import numpy as np
import sqlalchemy as sa

from prefrl.arrays import Floats
from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.answers import damaged
from prefrl.feedback.database import REPEATS, STANDING, segments_of
from prefrl.feedback.kinds import KINDS, FeedbackKind, from_json, kinds_of
from prefrl.feedback.run_store import run_store
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import DEMONSTRATIONS, JUDGE
from prefrl.runs.directory import RunDirectory

_NAMED = 10
"""Largest number of answers that a line of the report lists."""


class GivenAnswer(NamedTuple):
    """A standing answer of a labeller."""

    unit: int
    """Id of the query; for a repeat, of its original."""
    repeat: bool
    labeller: str
    value: Any
    """The value, for the segments in the order shown."""
    seconds: float | None
    """Response time in seconds."""
    agrees: bool | None
    """Whether the true reward agrees; None if it is unknown, or one of the two has no preference."""
    kind: FeedbackKind
    id: int = 0
    """Id of the answer."""
    rewards: tuple[Floats, ...] = ()
    """(L,) true rewards of each segment; empty if one is unknown."""
    by_program: bool = False
    """Whether a judge answered, or the label is automatic."""

    @property
    def original_value(self) -> Any:
        """The value, for the segments in the original order."""
        return self.kind.reverse(self.value) if self.repeat else self.value

    @property
    def counts(self) -> bool:
        """Whether the answer counts as a label."""
        return self.kind.counts(self.value)


def self_consistency(answers: Sequence[GivenAnswer]) -> tuple[float | None, int]:
    """Compute the fraction of repeats that a labeller answered like the original; see `FeedbackKind.likeness`.

    Answers that do not count as labels, such as "can't tell", are ignored.

    Returns:
        The fraction, None if there are no such repeats; and the number of repeats.
    """
    first = {(a.labeller, a.unit): a.original_value for a in answers if not a.repeat and a.counts}
    again = [a for a in answers if a.repeat and a.counts and (a.labeller, a.unit) in first]
    same = [a.kind.likeness(a.original_value, first[a.labeller, a.unit]) for a in again]
    return (float(np.mean(same)) if same else None), len(same)


def agreement(answers: Sequence[GivenAnswer]) -> tuple[float | None, int]:
    """Compute Krippendorff's alpha between labellers, on answers of one kind: 1 for perfect agreement, 0 for chance.

    Returns:
        Alpha, None if no query was answered by several labellers, or if all answers are the same; and the number of
        queries that several labellers answered.
    """
    codes: dict[int, dict[str, float]] = defaultdict(dict)
    for answer in answers:
        if answer.counts:
            codes[answer.unit].setdefault(answer.labeller, answer.kind.code(answer.original_value))
    shared = [by for by in codes.values() if len(by) > 1]
    labellers = sorted({labeller for by in shared for labeller in by})
    table = np.array([[by.get(labeller, np.nan) for by in shared] for labeller in labellers], dtype=float)
    if not shared or len(np.unique(table[~np.isnan(table)])) < 2:
        return None, len(shared)
    level = answers[0].kind.level
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level)), len(shared)


def hasty(answers: Sequence[GivenAnswer], clip_seconds: float) -> list[int]:
    """Return the ids of answers that were given in less time than a clip takes to play."""
    return [answer.id for answer in answers if answer.seconds is not None and answer.seconds < clip_seconds]


def label_metrics(kind: FeedbackKind, answers: Sequence[GivenAnswer], clip_seconds: float = 0.0) -> dict[str, Any]:
    """Compute metrics of answers of one kind.

    Args:
        kind: The feedback kind.
        answers: The answers of one labeller, or of all.
        clip_seconds: Duration of a clip in seconds.

    Returns:
        The metrics by name; None for those without data.
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
        "agrees_with_reward": _agreement_with_reward(kind, answers),
    }


def _agreement_with_reward(kind: FeedbackKind, answers: Sequence[GivenAnswer]) -> float | None:
    """Return the share of answers that agree with the true reward, or the kind's own measure."""
    known = [answer for answer in answers if answer.rewards and answer.counts]
    own = kind.concordance([answer.value for answer in known], [answer.rewards for answer in known])
    return _share([answer.agrees for answer in answers if answer.agrees is not None]) if own is None else own


def report(root: Path) -> dict[str, Any]:
    """Compute the metrics of a run's labels: of all labellers, of each labeller, and the agreement between them.

    Only answers of the kinds that the run asks for are included. The metrics are those of the first kind; those of the
    other kinds are in a list of reports, `other_kinds`. The totals leave out the answers of a judge, if others answered
    too, and automatic labels.

    Raises:
        UsageError: if the folder is not a run.
        PrefrlError: if the run has no labels yet, or its files are damaged.
    """
    run = RunDirectory.open(root)
    if not run.labels.exists():
        raise PrefrlError(f"{root} has no labels yet")
    with run_store(run) as store:
        given = {kind: read_answers(store, ClipFolder(run.clips), kind) for kind in kinds_of(run.config).values()}
        late = store.late_answers()
    first, *others = (_report_of(run, kind, answers) for kind, answers in given.items())
    return first | {"late_answers": late} | ({"other_kinds": others} if others else {})


def _report_of(run: RunDirectory, kind: FeedbackKind, answers: Sequence[GivenAnswer]) -> dict[str, Any]:
    """Compute the metrics of the answers of one kind."""
    people = [answer for answer in answers if not answer.by_program]
    counted = people or [answer for answer in answers if answer.labeller != DEMONSTRATIONS]
    alpha, shared = agreement(counted)
    lasts = run.config.queries.segment_length / run.config.playback_fps
    by = {name: [a for a in answers if a.labeller == name] for name in sorted({a.labeller for a in answers})}
    return {
        "run": str(run.root),
        "kind": kind.name,
        "clip_seconds": lasts,
        "all": label_metrics(kind, counted, lasts),
        "labellers": {name: label_metrics(kind, own, lasts) for name, own in by.items()},
        "hasty_answers": hasty(answers, lasts),
        "krippendorff_alpha": alpha,
        "pairs_judged_by_several": shared,
    }


def read_answers(store: LabelStore, clips: ClipFolder, kind: FeedbackKind) -> list[GivenAnswer]:
    """Read the standing answers of a kind, sorted by id. A simulated teacher counts as a labeller of that name."""
    repeats = sa.outerjoin(STANDING, REPEATS, REPEATS.c.query_id == STANDING.c.query_id)
    query = sa.select(STANDING, REPEATS.c.original_id).select_from(repeats).order_by(STANDING.c.id)
    query = query.where(STANDING.c.kind == kind.name)
    with store.database.read() as connection:
        corrupt, about = damaged(connection), segments_of(connection)
        rows = [row for row in connection.execute(query) if row.id not in corrupt]
    read: dict[int, Floats | None] = {}
    answers = []
    for row in rows:
        segments = about[row.query_id]
        for segment in segments:
            if segment not in read:
                read[segment] = _rewards(clips, segment)
        known = tuple(rewards for segment in segments if (rewards := read[segment]) is not None)
        value, whole = from_json(kind, row.value), len(known) == len(segments)
        agrees = kind.agrees(value, [float(rewards.sum()) for rewards in known]) if whole else None
        unit, name = row.original_id or row.query_id, row.labeller or row.teacher
        answers.append(
            GivenAnswer(
                unit=unit,
                repeat=row.original_id is not None,
                labeller=name,
                value=value,
                seconds=row.response_seconds,
                agrees=agrees,
                kind=kind,
                id=row.id,
                rewards=known if whole else (),
                by_program=row.teacher in (JUDGE, DEMONSTRATIONS),
            )
        )
    return answers


def report_lines(report: dict[str, Any]) -> list[str]:
    """Format the report as a table with a line for each labeller, followed by notes, for each feedback kind."""
    reports = [report, *report.get("other_kinds", ())]
    if len(reports) == 1:
        return _kind_lines(report)
    return [line for each in reports for line in (f"{each['kind']}:", *_kind_lines(each))]


def _kind_lines(report: dict[str, Any]) -> list[str]:
    """Format the report on the answers of one kind."""
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
    text = f"{alpha:.2f} over {shared} queries" if alpha is not None else f"- ({shared} queries with several answers)"
    late = report.get("late_answers")
    return [
        *lines,
        f"agreement between labellers (Krippendorff's alpha; 1 perfect, 0 chance): {text}",
        *_hasty_lines(report["hasty_answers"], report["clip_seconds"]),
        *([f"late: {late} answers to queries that were answered already; they are not used"] if late else []),
        f"{kind.rate_legend}consistent: repeats that were answered like the original; as reward: answers that agree "
        "with the true reward",
    ]


def _hasty_lines(ids: Sequence[int], clip_seconds: float) -> list[str]:
    """Format the list of hasty answers."""
    if not ids:
        return []
    named = ", ".join(map(str, ids[:_NAMED])) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
    return [f"hasty: answers given in less time than a clip lasts ({clip_seconds:g} s): {named}"]


def _rewards(clips: ClipFolder, segment: int) -> Floats | None:
    try:
        return clips.load(segment).true_rewards
    except PrefrlError:
        return None  # a missing clip has no rewards; its label still counts


def _share(values: Sequence[bool]) -> float | None:
    return float(np.mean(values)) if values else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
