"""The marks that a person has set on the clip in view. Independent of Qt."""

from __future__ import annotations


def marked_step(frame: int, frames: int, reaction: float, *, looped: bool) -> int:
    """Return the step that a key marks: the one that was visible a reaction time earlier.

    Args:
        frame: The frame that is visible when the key is pressed.
        frames: Frames of the clip.
        reaction: Reaction time in frames, at the current speed; 0 while paused.
        looped: Whether the clip has been played to its end, so that the end was visible before the start.
    """
    step = frame - round(reaction)
    return step % frames if looped else max(0, step)


class Marking:
    """Marks by step, at most one on each."""

    def __init__(self) -> None:
        self._signs: dict[int, int] = {}

    def __len__(self) -> int:
        """Return the number of marks."""
        return len(self._signs)

    @property
    def value(self) -> list[list[int]]:
        """[step, sign] of each mark, sorted by step."""
        return [[step, self._signs[step]] for step in sorted(self._signs)]

    def add(self, step: int, sign: int) -> None:
        """Mark a step as good (1) or bad (-1). It replaces the mark that the step has."""
        self._signs.pop(step, None)
        self._signs[step] = sign

    def undo(self) -> bool:
        """Remove the last mark, and return whether there was one."""
        return bool(self._signs) and bool(self._signs.popitem())

    def clear(self) -> None:
        """Remove all marks."""
        self._signs.clear()
