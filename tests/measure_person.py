"""Measure a scripted person at the window of a running training: waiting times, and whether answers are stored right.

python tests/measure_person.py hopper --labels 200 --steps 1000000 --pairs 100 --per-minute 15

Fewer steps than a run for people has, so that the agent is at work, and waits, while they label.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from person import Person, Said, standing
from prefrl_benchmarks.measure.screen import Screen, clip_areas
from runs import live, progress, until

_PAINTED = 0.3
"""Seconds within which the next pair must be on the screen; the person has to look, which takes a twentieth."""
_GONE = 0.06
"""Seconds after a key in which the pair that it answered may still be on the screen."""
_PATIENCE = 6.0
"""Seconds of looking after which pairs are taken to look alike: hoppers on the ground, dots that are in the middle."""


def main() -> int:
    """Run it; exit status 1 where an answer is not in the store as it was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--per-minute", type=float, default=15)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--set", nargs="*", default=[], dest="settings")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Screen() as screen:
        root = Path(folder) / "run"
        words = ["train", options.task, "--teacher", "human", "--out", str(root)]
        words += ["--labels", str(options.labels), "--steps", str(options.steps)]
        words += ["--set", "queries.repeats=0", *options.settings]
        with Person(screen, root, patience=_PATIENCE) as person, live(Path(folder) / "log", *words) as run:
            until((root / "config.json").exists, "the run's folder")
            waits = label(person, screen, options.pairs, 60 / options.per_minute)
            person.close()
            right = stored_as_seen(person)
            print(json.dumps(figures(person.said, waits) | {"stored_as_seen": right, "run": progress(root)["state"]}))
            if options.pairs == options.labels:
                assert run.wait(timeout=3600) == 0, run.err
                print((root / "summary.json").read_text())
    return 0 if right else 1


def label(person: Person, screen: Screen, pairs: int, seconds: float) -> list[float]:
    """Answer pairs at a steady pace; for each, how long after the key the next pair was on the screen."""
    person.open()
    waits, seen = [], person.see()
    bright = is_shown(screen)  # pictures that are mostly black cannot be told from a message at a glance
    due = time.monotonic()
    for place in range(pairs):
        due += seconds
        time.sleep(max(0.0, due - time.monotonic()))
        person.say(seen, person.better(seen))
        if place == pairs - 1:
            time.sleep(1)  # until it is stored
            break
        pressed = time.monotonic()
        if bright:
            time.sleep(_GONE)
            until(lambda: is_shown(screen), "the next pair")
            waits.append(time.monotonic() - pressed)
            if waits[-1] > _PAINTED:
                print(f"pair {place + 2} came after {waits[-1]:.1f} s", file=sys.stderr)
        seen = person.see(besides=seen.query if seen.told else None)
    return waits


def stored_as_seen(person: Person) -> bool:
    """Whether the store holds every answer, in order; of pairs that could not be told apart, whatever they were."""
    stored = standing(person.root)
    return len(stored) == len(person.said) and all(
        row[2] == said.key and (row[:2] == (said.query, said.left) or not said.told)
        for row, said in zip(stored, person.said, strict=True)
    )


def is_shown(screen: Screen) -> bool:
    """Whether two pictures are on the screen: something else than black, or than text on black."""
    picture = screen.grab()
    places = clip_areas(picture)
    return places is not None and all(np.median(place.of(picture).max(axis=2)) > 0 for place in places)


def figures(said: list[Said], waits: list[float]) -> dict[str, float | None]:
    """The pace that was held, and the waits after the first five pairs."""
    minutes = (said[-1].at - said[0].at) / 60
    later = waits[5:]  # none where a glance cannot tell a picture from a message
    return {
        "answers": len(said),
        "told_apart": sum(one.told for one in said),
        "per_minute": round((len(said) - 1) / minutes, 2),
        "waits_after_the_fifth": sum(wait > _PAINTED for wait in later) if later else None,
        "longest_wait_after_the_fifth": round(max(later), 3) if later else None,
    }


if __name__ == "__main__":
    sys.exit(main())
