"""Ask queries on schedule, and wait for the answers if necessary (paper, section 2.2)."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence

from prefrl.arrays import Array, Floats
from prefrl.config import RunConfig
from prefrl.config.feedback_shares import allotted
from prefrl.errors import PrefrlError, explain
from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds import kinds_of
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore, answers_given
from prefrl.feedback.terms import IMPORTED_ROUND, JUDGE, Query
from prefrl.feedback.usable import unusable_labels
from prefrl.feedback.watched import WatchedRewards
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.seeding import stream
from prefrl.selection.answerability import Answerability
from prefrl.selection.asked_features import AskedFeatures
from prefrl.selection.rules import RULES, choose, of_newest_episodes
from prefrl.selection.schedule import labels_due, labels_due_in_sessions
from prefrl.storage.files import Tree
from prefrl.teachers import skips_count
from prefrl.teachers.teacher import Teacher

_POLL_SECONDS = 0.05
_SPARE_IDS = 10**9
"""First segment id for clips whose own id is already in use."""


Waiting = Callable[[dict[str, int]], None]
"""Called repeatedly with the label counts while answers are pending; may raise an exception to stop waiting."""


class Asker:
    """Asks queries on schedule, independently of the agent's algorithm and of the reward learner."""

    def __init__(
        self,
        config: RunConfig,
        store: LabelStore,
        clips: ClipFolder,
        pool: deque[Segment],
        teacher: Teacher,
        ensemble: Callable[[], RewardEnsemble | None],
    ) -> None:
        """Initialise the asker.

        Args:
            config: The run.
            store: Stores the queries and answers.
            clips: Stores the queried segments.
            pool: The newest segments, filled by the recorder.
            teacher: Answers the queries.
            ensemble: Returns the newest reward model, which selects queries; None before pretraining.
        """
        self.config, self._ensemble = config, ensemble
        self._store, self._clips, self._pool, self._teacher = store, clips, pool, teacher
        self._rng = stream(config.seed, "queries")
        self._skips_count = skips_count(config.teacher)
        self._has_judge = config.judge.source is not None
        self._kinds = kinds_of(config)
        self._asked: dict[str, set[tuple[int, ...]]] = {kind: set() for kind in self._kinds}
        """Segment ids of the queries of each kind that were asked."""
        self._watched = {kind: WatchedRewards(clips) for kind in self._kinds}
        self._asked_features = AskedFeatures(clips)
        self._answerability = {kind: Answerability(store, clips, kind, config.seed) for kind in self._kinds}
        self._imported = 0
        """Number of imported labels."""
        self.round = 0
        self._begun: int | None = None
        """Agent steps at the first round, from which sessions are counted."""
        # A synchronous run that was restored from a checkpoint replays its rounds. The answers of a later round stay
        # hidden until that round is replayed. Other runs use all answers in the store and continue after them.
        self._replays = config.synchronous

    @property
    def counts(self) -> dict[str, int]:
        """Label counts by judgement, up to the current round, and `spent`: answers that count towards the budget.

        These include a judge's "can't tell".
        """
        counts = self._store.counts(self.replayed_round)
        spent = answers_given(counts) if self._skips_count else counts["answered"]
        if (
            self._has_judge and not self._skips_count
        ):  # which always says the same of a pair, so that asking on could go on without end
            said = self._store.counts(self.replayed_round, JUDGE)
            spent += answers_given(said) - said["answered"]
        return counts | {"spent": spent}

    @property
    def asking(self) -> bool:
        """Whether the budget is not spent, and the run does not finish with its current labels."""
        return not self.closed and self.counts["spent"] < self.config.queries.labels

    @property
    def label_seconds(self) -> float:
        """Time in seconds that a labeller took, or would have taken, for the answers up to the current round."""
        return self._store.label_seconds(self.replayed_round)

    @property
    def unusable(self) -> int:
        """Number of labels that cannot be learned from, e.g. because a clip is missing or damaged."""
        return len(unusable_labels(self._store, self._clips, *self.config.shares))

    @property
    def problems(self) -> list[str]:
        """Why queries were withdrawn, newest first."""
        return LabelQueue(self._store).problems()

    @property
    def by_teacher(self) -> dict[str, int]:
        """Number of standing answers by teacher, including automatic labels."""
        return self._store.by_teacher()

    @property
    def closed(self) -> bool:
        """Whether the run finishes with its current labels (`prefrl labels finish`)."""
        return self._store.closed

    @property
    def replayed_round(self) -> int | None:
        """The current round if the run replays its rounds from a checkpoint, otherwise None."""
        return self.round if self._replays else None

    def due(self, step: int) -> int:
        """Return the number of labels due at an agent step."""
        queries, steps, initial = self.config.queries, self.config.steps, self.initial_labels
        if queries.session_steps is not None:
            begun = step if self._begun is None else self._begun
            return labels_due_in_sessions(
                step - begun,
                budget=queries.labels,
                initial=initial,
                steps=queries.session_steps,
                labels=queries.session_labels or queries.initial_labels,
                horizon=steps - begun,
            )
        explored = self.config.exploration.steps if self.initial_segments else 0  # before the first labels
        return labels_due(
            max(0, step - explored),
            budget=queries.labels,
            initial=initial,
            constant=queries.schedule_constant or steps / 10,
            horizon=steps - explored,
            bins=queries.schedule_bins,
        )

    @property
    def initial_labels(self) -> int:
        """Number of labels before training starts, including imported labels."""
        queries = self.config.queries
        return min(max(queries.initial_labels, self._imported), queries.labels)

    @property
    def initial_segments(self) -> int:
        """Number of segments to record before the first queries; 0 if no initial labels are missing."""
        missing = self.initial_labels - self._imported
        return min(max(3, missing), self.config.queries.pool) if missing > 0 else 0

    def ask(self, step: int, waiting: Waiting, *, last: bool = False) -> None:
        """Ask for the labels that are due.

        A synchronous run waits for the answers. An asynchronous run waits only for people, if they are too far behind
        the schedule. In the last round, every run waits.

        Args:
            step: Agent steps taken.
            waiting: Called while waiting; may raise an exception to stop.
            last: Whether this is the last round.
        """
        if last or self.config.synchronous:
            self.settle(step, lambda: self.due(step), waiting)
            return
        self.ask_once(step, self.due(step))
        if self.config.asks_people:
            self.wait_for_people(step, waiting)

    def ask_once(self, step: int, due: int) -> None:
        """Run one selection round: submit a query for each missing label, and collect the answers that are ready.

        Args:
            step: Agent steps taken.
            due: Number of labels due by now.
        """
        self._begun = step if self._begun is None else self._begun
        missing = self._missing(due)  # before the round starts, so that a replay does not count its own old answers
        self.round += 1
        queries = self._keep(self.choose(step, missing), due) if missing > 0 else []
        if queries:
            ids = self._store.add_queries(queries)
            open_ids = self._store.unanswered(ids) if self._replays else ids.keys()
            self._teacher.submit({query_id: query for query_id, query in ids.items() if query_id in open_ids})
        self.collect()

    def _missing(self, due: int) -> int:
        if self.closed:
            return 0
        counts = self.counts
        return due - counts["spent"] - counts["pending"]

    def choose(self, step: int, count: int) -> list[Query]:
        """Select the most informative queries.

        Args:
            step: Agent steps taken.
            count: Number of queries.

        Returns:
            Queries, best first; fewer than `count` if the pool has no more.
        """
        counts = allotted(count, self.config.shares, {kind: len(asked) for kind, asked in self._asked.items()})
        chosen = [(kind, segments) for kind, share in counts.items() for segments in self._choose(kind, share, step)]
        return [Query(kind, segments, self.round, rank, step) for rank, (kind, segments) in enumerate(chosen)]

    def _choose(self, kind: str, count: int, step: int) -> list[tuple[Segment, ...]]:
        """Select the segments of the most informative queries of a kind."""
        queries, asked, ensemble = self.config.queries, self._asked[kind], self._ensemble()

        def answerable(segments: Sequence[Segment], chosen: Array) -> Array:
            assert ensemble is not None
            known = self._answerability[kind]
            # A replayed round uses the answers that there were, whatever was answered or undone since.
            upto = known.last_row(self.round - 1, step) if self._replays else None
            return known.predict(ensemble, segments, chosen, upto)

        rule, pool = RULES.get(queries.selection), of_newest_episodes(self._pool, queries.pool_episodes)
        return choose(
            pool,
            count,
            self._rng,
            arity=self._kinds[kind].arity,
            asked=asked,
            candidate_factor=queries.candidate_factor,
            candidate_clips=queries.candidate_clips,
            predict=ensemble.predictor(self.config.losses[kind]) if rule and ensemble else None,
            rule=rule or RULES["variance"],
            asked_features=lambda: self._asked_features(asked, self._pool),
            answerable=answerable,
        )

    def watched(self, kind: str) -> Floats:
        """Return the true rewards, (N, L), of the segments of all queries of a kind up to the current round."""
        return self._watched[kind](self._asked[kind])

    def _keep(self, queries: list[Query], due: int) -> list[Query]:
        """Save the clips and scenes of queries, and return the queries.

        A replayed round may differ from the original, e.g. on a machine with different rounding. Its queries are then
        asked again under new ids, and the old labels keep their old clips.
        """
        segments = {segment.id: segment for query in queries for segment in query.segments}
        differing = [number for number, segment in segments.items() if not self._clips.save(segment)]
        if differing or (self._replays and self._store.differs(queries)):
            self._replays = False
            self.round = self._store.last_round() + 1
            for kind, asked in self._asked.items():
                asked.update(self._store.asked(kind))
            spare = max(_SPARE_IDS, self._store.last_segment() + 1)
            for new, old in enumerate(differing, start=spare):
                segments[old] = dataclasses.replace(segments[old], id=new)
                self._clips.save(segments[old])
            queries = [
                query._replace(round=self.round, segments=tuple(segments[segment.id] for segment in query.segments))
                for query in queries
            ][: max(0, self._missing(due))]
        for segment in segments.values():
            self._clips.save_scene(segment)
        self._clips.sync()
        for query in queries:
            self._asked[query.kind].add(tuple(sorted(segment.id for segment in query.segments)))
        return queries

    def collect(self) -> None:
        """Store the answers that are ready."""
        self._store.add_answers(self._teacher.collect())

    def settle(self, step: int, due: Callable[[], int], waiting: Waiting) -> None:
        """Ask and wait until all due labels are answered.

        Args:
            step: Agent steps taken.
            due: Returns the number of labels due.
            waiting: Called while waiting; may raise an exception to stop.
        """
        while True:
            asked = self._number_asked
            self.ask_once(step, due())
            while (counts := self.counts)["pending"]:
                waiting(counts)
                time.sleep(_POLL_SECONDS)
                self.collect()
            if counts["spent"] >= due() or self._number_asked == asked:
                return  # all labels are answered, or nothing is left to ask

    @property
    def _number_asked(self) -> int:
        """Number of queries that were asked."""
        return sum(map(len, self._asked.values()))

    def wait_for_people(self, step: int, waiting: Waiting) -> None:
        """Wait while people are too far behind the schedule; arguments as for `settle`.

        The allowed backlog shrinks to zero by the end of the run, because the agent needs steps to learn from labels.
        """
        lead = self.config.queries.lead * max(0.0, 1 - step / self.config.steps)
        while (counts := self.counts)["pending"] and counts["spent"] + lead < self.due(step):
            waiting(counts)
            time.sleep(_POLL_SECONDS)

    def state_dict(self) -> Tree:
        """Return the round and the random state. Labels are in the store, segments in the recorder's pool."""
        return {
            "round": self.round,
            "begun": self._begun,
            "rng": copy.deepcopy(self._rng.bit_generator.state),
        }

    def load_state_dict(self, state: Tree, *, exact: bool) -> int:
        """Restore a saved state. Labels that are newer than the state are kept.

        Args:
            state: From `state_dict`.
            exact: Whether everything else was restored exactly, so that the run can replay its rounds.

        Returns:
            The first unused segment id, or 0 if the run replays its rounds.
        """
        self.round, self._begun = int(state["round"]), state.get("begun")
        self._rng.bit_generator.state = state["rng"]
        return self.sync_with_store(exact=exact)

    def sync_with_store(self, *, exact: bool = True) -> int:
        """Read the existing queries and labels from the store; arguments and result as for `load_state_dict`."""
        self._replays &= exact
        self._imported = self._store.counts(IMPORTED_ROUND)["answered"]
        # A replay would meet labels that were imported after the checkpoint too early, so it would not be exact.
        self._replays &= not self._store.imported_after(self.round)
        self._replays &= not self._store.queued  # nor those that were queued from outside
        # Nor is a replay exact if clips of its labels are missing.
        self._replays &= not self.unusable
        self._asked = {kind: self._store.asked(kind, self.replayed_round) for kind in self._kinds}
        if self._replays:
            return 0
        self.round = max(self.round, self._store.last_round())
        self._teacher.submit(self._outstanding())
        self.collect()
        return self._store.last_segment() + 1

    def _outstanding(self) -> dict[int, Query]:
        """Return the pending queries of a stopped run, restored from the store and the clips."""
        queries = {}
        for pending in self._store.pending():
            try:
                segments = tuple(self._clips.load(segment) for segment in pending.segments)
            except PrefrlError as error:
                LabelQueue(self._store).withdraw(pending.id, explain(error))
            else:
                queries[pending.id] = Query(pending.kind, segments, *pending[3:])
        return queries
