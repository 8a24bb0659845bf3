"""Asking: when, about which pairs of clips, and for how long to wait for the answers (paper, section 2.2)."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from prefrl.config import RunConfig
from prefrl.errors import PrefrlError, explain
from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds.comparison import pair_query
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import IMPORTED_ROUND, LabelStore
from prefrl.feedback.terms import Query
from prefrl.feedback.usable import unusable_labels
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.seeding import stream
from prefrl.selection.rules import RULES, choose, disagreement
from prefrl.selection.schedule import labels_due
from prefrl.storage.files import Tree
from prefrl.teachers.teacher import Teacher

_POLL_SECONDS = 0.05
_SPARE_IDS = 10**9
"""Segment ids from here on are for clips whose own id was taken."""


Waiting = Callable[[dict[str, int]], None]
"""Called again and again with the label counts while answers are outstanding; may raise to stop waiting."""


class Asker:
    """Asks on schedule. Knows neither the agent's algorithm nor how rewards are learned."""

    def __init__(
        self,
        config: RunConfig,
        store: LabelStore,
        clips: ClipFolder,
        pool: deque[Segment],
        teacher: Teacher,
        ensemble: Callable[[], RewardEnsemble | None],
    ) -> None:
        """Put the parts together.

        Args:
            config: The run.
            store: Where labels live.
            clips: Where segments that are asked about live.
            pool: The newest segments, filled by the recorder.
            teacher: Who answers.
            ensemble: Gives the newest reward model, by which pairs are selected; None before it is pretrained.
        """
        self.config, self._ensemble = config, ensemble
        self._store, self._clips, self._pool, self._teacher = store, clips, pool, teacher
        self._rng = stream(config.seed, "queries")
        self._asked: set[tuple[int, int]] = set()
        self._imported = 0
        """Labels that came from a file."""
        self.round = 0
        # A synchronous run that went back to a checkpoint replays its rounds and meets its old answers there; until
        # then it must not see them. Any other run keeps whatever is in the store and goes on after it.
        self._replays = config.synchronous

    @property
    def counts(self) -> dict[str, int]:
        """The store's counts, as far as this run has come."""
        return self._store.counts(self.replayed_round)

    @property
    def unusable(self) -> int:
        """How many labels cannot be learned from, their clips being gone or damaged."""
        return len(unusable_labels(self._store, self._clips))

    @property
    def problems(self) -> list[str]:
        """Why queries were withdrawn, newest first."""
        return LabelQueue(self._store).problems()

    @property
    def closed(self) -> bool:
        """Whether somebody said that the run is to finish with the labels there are."""
        return self._store.closed

    @property
    def replayed_round(self) -> int | None:
        """The round that a run has come to that repeats itself from a checkpoint; None where it does not."""
        return self.round if self._replays else None

    def due(self, step: int) -> int:
        """Labels due by an agent step."""
        queries, steps = self.config.queries, self.config.steps
        return labels_due(
            step,
            budget=queries.labels,
            initial=self.initial_labels,
            constant=queries.schedule_constant or steps / 10,
            horizon=steps,
            bins=queries.schedule_bins,
        )

    @property
    def initial_labels(self) -> int:
        """Labels that there should be before the agent trains: those that came from a file are there already."""
        queries = self.config.queries
        return min(max(queries.initial_labels, self._imported), queries.labels)

    @property
    def initial_segments(self) -> int:
        """Segments to be recorded before the first queries are chosen; none where there is nothing to ask."""
        missing = self.initial_labels - self._imported
        return min(max(3, missing), self.config.queries.pool) if missing > 0 else 0

    def ask(self, step: int, waiting: Waiting, *, last: bool = False) -> None:
        """Ask for what the schedule says is due.

        A synchronous run waits for the answers; an asynchronous one goes on, and waits only for people who are too far
        behind. In the last round every run waits.

        Args:
            step: Agent steps taken.
            waiting: Called while it waits; may raise to stop.
            last: Whether the agent trains no more.
        """
        if last or self.config.synchronous:
            self.settle(step, lambda: self.due(step), waiting)
            return
        self.ask_once(step, self.due(step))
        if self.config.asks_people:
            self.wait_for_people(step, waiting)

    def ask_once(self, step: int, due: int) -> None:
        """One selection round: submit as many queries as labels are missing, and collect what is answered.

        Args:
            step: Agent steps taken.
            due: Labels that there should be by now.
        """
        missing = self._missing(due)  # before the round begins: a replay must not see its own old answers yet
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
        return due - counts["answered"] - counts["pending"]

    def choose(self, step: int, count: int) -> list[Query]:
        """The pairs of clips that are most worth asking about.

        Args:
            step: Agent steps taken.
            count: How many; there may be fewer.
        """
        queries, ensemble = self.config.queries, self._ensemble()
        rule = RULES.get(queries.selection)
        chosen = choose(
            self._pool,
            count,
            self._rng,
            asked=self._asked,
            candidate_factor=queries.candidate_factor,
            candidate_clips=queries.candidate_clips,
            predict=ensemble.predict_preferences if rule and ensemble else None,
            rule=rule or disagreement,
        )
        return [pair_query(self.round, rank, left, right, step) for rank, (left, right) in enumerate(chosen)]

    def _keep(self, queries: list[Query], due: int) -> list[Query]:
        """Save the clips of queries, and what it takes to show them.

        Where a replayed round does not repeat itself, it is asked anew under new ids. That happens where a run is
        resumed on a machine that rounds differently: old labels stay with their old clips.
        """
        segments = {segment.id: segment for query in queries for segment in query.segments}
        differing = [number for number, segment in segments.items() if not self._clips.save(segment)]
        if differing or (self._replays and self._store.differs(queries)):
            self._replays = False
            self.round = self._store.last_round() + 1
            self._asked |= self._store.asked_pairs()
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
        ids = ([segment.id for segment in query.segments] for query in queries)
        self._asked |= {(min(pair), max(pair)) for pair in ids}
        return queries

    def collect(self) -> None:
        """Store the answers that are ready."""
        self._store.add_answers(self._teacher.collect())

    def settle(self, step: int, due: Callable[[], int], waiting: Waiting) -> None:
        """Ask and wait until the labels that are due are there.

        Args:
            step: Agent steps taken.
            due: Labels that there should be.
            waiting: Called while it waits; may raise to stop.
        """
        while True:
            asked = len(self._asked)
            self.ask_once(step, due())
            while (counts := self.counts)["pending"]:
                waiting(counts)
                time.sleep(_POLL_SECONDS)
                self.collect()
            if counts["answered"] >= due() or len(self._asked) == asked:
                return  # all there, or nothing is left to ask

    def wait_for_people(self, step: int, waiting: Waiting) -> None:
        """Wait while people are further behind the schedule than they may be; arguments as for `settle`.

        Towards the run's end they may be less and less: the agent would have no steps left to learn from their labels.
        """
        lead = self.config.queries.lead * max(0.0, 1 - step / self.config.steps)
        while (counts := self.counts)["pending"] and counts["answered"] + lead < self.due(step):
            waiting(counts)
            time.sleep(_POLL_SECONDS)

    def state_dict(self) -> Tree:
        """Which round it has come to; labels are in the store, segments in the pool."""
        return {
            "round": self.round,
            "rng": copy.deepcopy(self._rng.bit_generator.state),
        }

    def load_state_dict(self, state: Tree, *, exact: bool) -> int:
        """Go back to a saved state, with the labels that are newer than it.

        Args:
            state: From `state_dict`.
            exact: Whether everything else stands exactly where it stood, so that the run repeats itself.

        Returns:
            The first segment id that is free for new segments, or 0 where the run repeats itself.
        """
        self.round = int(state["round"])
        self._rng.bit_generator.state = state["rng"]
        return self.sync_with_store(exact=exact)

    def sync_with_store(self, *, exact: bool = True) -> int:
        """Take note of what is in the store already; arguments and result as for `load_state_dict`."""
        self._replays &= exact
        self._imported = self._store.counts(IMPORTED_ROUND)["answered"]
        # What was imported after answers that a replay has yet to meet would come before them: nothing repeats itself.
        self._replays &= not self._store.imported_after(self.round)
        # Nor would it be learned from the same labels where some of their clips are gone.
        self._replays &= not self.unusable
        self._asked = self._store.asked_pairs(self.replayed_round)
        if self._replays:
            return 0
        self.round = max(self.round, self._store.last_round())
        self._teacher.submit(self._outstanding())
        self.collect()
        return self._store.last_segment() + 1

    def _outstanding(self) -> dict[int, Query]:
        """Queries that were asked and not answered when the run stopped, from the store and the clips."""
        queries = {}
        for pending in self._store.pending():
            try:
                segments = tuple(self._asked_about(segment) for segment in pending.segments)
            except PrefrlError as error:
                LabelQueue(self._store).withdraw(pending.id, explain(error))
            else:
                queries[pending.id] = Query(pending.kind, segments, *pending[3:])
        return queries

    def _asked_about(self, segment: int) -> Segment:
        """A segment from its clip, as far as a teacher needs it: a vector's actions are among its features."""
        features, true_rewards = self._clips.load(segment)
        nothing = np.zeros((len(true_rewards), 0), np.float32)
        return Segment(segment, features, nothing, true_rewards, self.config.frame_stack)
