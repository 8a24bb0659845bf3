"""The clips that a probe kept, one of them in view, and the run's queue. Independent of Qt."""

from __future__ import annotations

from prefrl.arrays import Array
from prefrl.errors import PrefrlError, explain
from prefrl.experience.clips import ClipFolder
from prefrl.printable import printable
from prefrl.probing.found import Found
from prefrl.probing.queueing import queue_clips, queued_line
from prefrl.probing.request import ProbeRequest
from prefrl.probing.results import read_results
from prefrl.rendering.clip_video import read_clip_video

_LONGEST_NAME = 60
_REFERENCE = "Reference"


class ProbeClips:
    """The kept clips of a finished probe, highest excess first."""

    def __init__(self, request: ProbeRequest) -> None:
        """Read the results.

        Args:
            request: The probe, whose clips have been rendered.

        Raises:
            PrefrlError: if no clips were kept, or a file is damaged.
        """
        results = read_results(request.out)
        if not results.clips:
            raise PrefrlError(f"{request.out} holds no clips to watch: no episode was as long as a clip")
        self._request, self._clips = request, ClipFolder(request.clip_folder)
        self._kept, self.queued, self.place = results.clips, results.queued, 0
        self.fps = request.run.config.playback_fps
        self.added = False
        """Whether `queue` has put the clips into the queue."""
        self.queue_said = self._already() if results.queued else ""
        """What is known of the queue; empty if the clips were not queued."""

    @property
    def _found(self) -> Found:
        return self._kept[self.place]

    @property
    def titles(self) -> tuple[str, ...]:
        """Title of each clip in view: the agent's, and those of the reference that a query shows next to it."""
        others = len(self._found.segments) - 1
        return (f"Agent {printable(self._found.agent, _LONGEST_NAME)}", *others * (_REFERENCE,))

    @property
    def headline(self) -> str:
        """The place of the clip in view."""
        return f"Clip {self.place + 1:,} of {len(self._kept):,}"

    @property
    def excess(self) -> str:
        """How much more reward the agent's clip has than the reference's clips, predicted and true."""
        predicted, true = self._found.excess, self._found.true_excess
        return f"Reward above the mean of the reference's clips: predicted {predicted:+z.2f}, true {true:+z.2f}"

    @property
    def first(self) -> bool:
        """Whether no clip comes before the one in view."""
        return self.place == 0

    @property
    def last(self) -> bool:
        """Whether no clip comes after the one in view."""
        return self.place == len(self._kept) - 1

    def move(self, places: int) -> bool:
        """Go forward by a number of places (negative: back), and return whether there is such a clip."""
        there = self.place + places
        if not 0 <= there < len(self._kept):
            return False
        self.place = there
        return True

    def frames(self) -> list[Array]:
        """Read the clips in view: (F, H, W, 3) each, in the order of the titles.

        Raises:
            PrefrlError: if a video is missing or damaged.
        """
        length = self._request.run.config.queries.segment_length
        return [read_clip_video(self._clips.video(number), length) for number in self._found.agent_first]

    def queue(self) -> None:
        """Put all clips into the queue of the run, unless they are there; `queue_said` tells what became of it."""
        if self.queued:
            self.queue_said = self._already()
            return
        try:
            self.queue_said = queued_line(self._request, queue_clips(self._request))
            self.queued = self.added = True
        except (PrefrlError, OSError) as error:  # e.g. the run is training
            self.queue_said = f"Not queued: {explain(error)}"

    def _already(self) -> str:
        return f"Already queued: {queued_line(self._request, len(self._kept))}"
