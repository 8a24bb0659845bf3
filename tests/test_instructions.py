"""What people read above the clips: the instruction of a task, in the words of each feedback kind."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from prefrl_envs import TASKS

from prefrl.config import RunConfig
from prefrl.config.migrations import downgraded, upgraded
from prefrl.experience.tasks import GymnasiumTask, aim_of
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.kinds.kind import FeedbackKind
from prefrl.recipes import resolve

CHEETAH = "Prefer the clip in which the cheetah runs faster to the right."
RATED = "Rate how good the clip is. Good means that the cheetah runs fast to the right."
MARKED = "Mark good and bad moments. Good means that the cheetah runs fast to the right."


def told(config: RunConfig, kind: str) -> str:
    return KINDS[kind].instruct(config.instruction, config.aim)


@pytest.mark.parametrize(("kind", "text"), [("comparison", CHEETAH), ("rating", RATED), ("marks", MARKED)])
def test_each_kind_has_its_verb(kind: str, text: str) -> None:
    config = resolve("cheetah", feedback=kind, teacher="human")
    assert config.instruction == CHEETAH
    assert told(config, kind) == text


@pytest.mark.parametrize("name", TASKS)
def test_what_fits_one_clip_does_not_speak_of_two(name: str) -> None:
    task = TASKS[name]
    for kind in ("rating", "marks"):
        words = KINDS[kind].instruct(task.instruction, task.aim)
        assert words.endswith(".")
        assert ".." not in words
        assert not [
            word for word in ("refer the", " than the other", "in both", "both are", "neither is") if word in words
        ]
    assert KINDS["comparison"].instruct(task.instruction, task.aim) == task.instruction


def test_tasks_without_an_aim_show_their_instruction() -> None:
    class Task:
        instruction = "Jump."

    assert aim_of(Task()) == ""  # type: ignore[arg-type]
    assert KINDS["rating"].instruct("Jump.", "") == "Rate how good the clip is. Jump."
    assert KINDS["marks"].instruct("Jump.", "") == "Mark good and bad moments. Jump."
    own = GymnasiumTask("Some-v0", "Some-v0", None, 20, 30)
    assert KINDS["rating"].instruct(own.instruction, aim_of(own)) == (
        "Rate how good the clip is. Good means that good things happen; judge only what you see."
    )
    assert FeedbackKind.instruct(KINDS["rating"], "Jump.", "high") == "Jump."  # kinds of other packages


def test_ones_own_instruction_takes_the_place_of_the_aim() -> None:
    jump = resolve("cheetah", feedback="rating", settings={"instruction": "Jump."})
    assert told(jump, "rating") == "Rate how good the clip is. Jump."
    both = resolve("cheetah", feedback="rating", settings={"instruction": "Jump.", "aim": "it jumps."})
    assert told(both, "rating") == "Rate how good the clip is. Good means that it jumps."
    assert told(both, "comparison") == "Jump."


def test_configurations_of_older_versions_have_no_aim(tmp_path) -> None:
    data = resolve("cheetah", feedback="rating").to_json()
    del data["aim"]
    config = RunConfig.from_json(upgraded("config", data, 5, tmp_path))
    assert (config.instruction, config.aim) == (CHEETAH, "")
    assert "aim" not in downgraded("config", config.to_json())


# -- the windows ------------------------------------------------------------------------------------------------------


def shown(window) -> str:
    return window.instruction.label.text().replace("\u200b", "")


DOT = TASKS["moving-dot"]
WORDS = {
    "comparison": DOT.instruction,
    "rating": f"Rate how good the clip is. Good means that {DOT.aim}",
    "marks": f"Mark good and bad moments. Good means that {DOT.aim}",
}


@pytest.mark.parametrize("kind", WORDS)
def test_the_window_shows_the_instruction_of_its_kind(tmp_path, qtbot, kind) -> None:
    pytest.importorskip("PySide6")
    from test_kinds_in_window import opened

    with opened(tmp_path, qtbot, kind) as (window, _):
        assert shown(window) == WORDS[kind]
        assert window.instruction.isVisible()


def test_with_several_kinds_the_instruction_is_that_of_the_clips_in_view(tmp_path, qtbot) -> None:
    pytest.importorskip("PySide6")
    from PySide6.QtCore import Qt
    from test_kinds_in_window import opened
    from viewing import press

    with opened(tmp_path, qtbot, "rating", "comparison", "marks", "rating") as (window, _):
        for kind, key in (("rating", "5"), ("comparison", "Left"), ("marks", "Return"), ("rating", "1")):
            assert window.pairs[0].lease.kind == kind
            assert shown(window) == WORDS[kind]
            press(qtbot, window, getattr(Qt.Key, f"Key_{key}"))


def test_who_demonstrates_reads_what_is_good(tmp_path) -> None:
    from clip_viewer.demonstrating import Demonstrating

    demonstrated = Demonstrating("moving-dot", tmp_path / "shown.safetensors")
    demonstrated.close()
    assert demonstrated.instruction == f"Good means that {DOT.aim}"
