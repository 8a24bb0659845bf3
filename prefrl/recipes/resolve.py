"""Resolve the configuration of a run: a chain of tables, each of which overrides those before it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from prefrl.config import RunConfig, replace
from prefrl.config.feedback_shares import feedback_shares
from prefrl.config.request import Request
from prefrl.config.schema import REWARD_MODEL
from prefrl.errors import UsageError
from prefrl.experience.find_task import find_task
from prefrl.experience.tasks import GymnasiumTask, TaskFacts, aim_of
from prefrl.feedback.feasibility import check_feedback
from prefrl.feedback.kinds import KINDS
from prefrl.recipes.ablations import ABLATIONS
from prefrl.recipes.tables import (
    ALGOS,
    ENDLESS_STEPS,
    EXPLORED_LABELS,
    EXPLORED_SHARE,
    EXPLORED_STEPS,
    EXPLORERS,
    HUMAN,
    HUMAN_REPLAYS,
    HUMAN_SCALES,
    IMAGE_REWARD,
    IMAGE_REWARD_ON_GPU,
    IMAGES,
    LEARNED_REWARD,
    PAPER_ENTROPY,
    PAPER_ENTROPY_ALGOS,
    PAPER_ENTROPY_TASKS,
    RECIPES,
    SCALES,
    STATE_ENTROPY,
    TASKS,
    Recipe,
    Settings,
)
from prefrl.registry import ALGORITHMS, NETWORKS
from prefrl.teachers import JUDGE, check_teacher, judges_by_advantage, marks_late, parse_teacher, uses_true_reward
from prefrl.teachers.naming import base_name


def resolve(request: Request | str, *, gpu: bool = False, **arguments: Any) -> RunConfig:
    """Return the complete configuration of a run.

    Args:
        request: The request, or only its task.
        gpu: Whether the run will have a GPU, which allows more gradient work on images.
        arguments: Other arguments of `Request`, if only a task is given.

    Raises:
        UsageError: for an unknown name or an invalid setting.
    """
    if isinstance(request, str):
        request = Request(request, **arguments)
    algo, ablation = request.algo, request.ablation
    facts = find_task(request.task, request.env_kwargs, people=request.asks_people)
    ALGORITHMS.check(algo)
    recipe = RECIPES[request.recipe]
    if recipe.algos and algo not in recipe.algos:
        raise UsageError(f"--recipe {request.recipe} is for --algo {' or '.join(recipe.algos)}, not {algo}")
    if facts.images and recipe.only_vectors:
        raise UsageError(f"--recipe {request.recipe} is for vectors, and the observations of {facts.name} are images")
    if ablation is not None:
        ABLATIONS.check(ablation)
    teacher, judge = parse_teacher(request.answered_by)
    base = RunConfig(
        task=facts.name,
        env_id=facts.env_id,
        env_kwargs=dict(request.env_kwargs),
        true_reward=not isinstance(facts, GymnasiumTask) or facts.true_reward,
        teacher=teacher,
        recipe=request.recipe,
    )
    layers: list[Settings] = [
        {
            "horizon": facts.horizon,
            "hide_endings": isinstance(facts, GymnasiumTask),
            "playback_fps": facts.playback_fps,
            "instruction": facts.instruction,
            "aim": "" if "instruction" in request.chosen else aim_of(facts),  # one's own words fit what one asks
            "queries.segment_length": facts.segment_length,
            # A native engine has neither snapshots nor colours, which people need.
            "native_engine": facts.native_engine and not base.asks_people,
            "algo": algo,
            "ablation": ablation,
            "feedback": request.feedback,
            "learner": request.learner,
            "reward.loss": ",".join(KINDS[name].likelihood for name in feedback_shares(request.feedback)),
            "judge.source": judge,
        },
        _unknown_ends(facts),
        LEARNED_REWARD,
        {"frame_stack": facts.frame_stack} | IMAGE_REWARD if facts.images else {},
        IMAGE_REWARD_ON_GPU if facts.images and gpu else {},
        task_settings(facts, algo),
        _human(facts, algo) if base.asks_people else {},
        _entropy(facts, algo, recipe) if base.learns_reward else {},
        _evaluation(facts) if base.asks_people or recipe.evaluates else {},
        _recipe(facts, algo, recipe),
        ABLATIONS[ablation] if ablation else {},
        {} if request.minutes is None else {"queries.labels": affordable(request)},
        request.chosen,
    ]
    merged: Settings = {}
    for layer in layers:
        merged |= layer
    config = replace(base, _exploration(facts, base, merged) | merged).validate()
    if unused := [name for name in request.chosen if not ALGORITHMS[algo].uses(name)]:
        raise UsageError(f"--algo {algo} has no use for {', '.join(unused)}")
    if ablation and config == replace(
        resolve(dataclasses.replace(request, ablation=None), gpu=gpu), {"ablation": ablation}
    ):
        same = " ".join(f"{name}={json.dumps(value)}" for name, value in ABLATIONS[ablation].items())
        raise UsageError(f"--ablation {ablation} changes nothing here, where {same} anyway")
    if config.images != facts.images:
        fitting = " or ".join(name for name, kind in NETWORKS.items() if kind.images == facts.images)
        seen = "images" if facts.images else "vectors"
        raise UsageError(f"the observations of {facts.name} are {seen}, which need reward.network={fitting}")
    check_teacher(config.teacher)
    check_feedback(config)
    if not config.true_reward and (not config.takes_labels or uses_true_reward(config.teacher)):
        raise UsageError(f"{facts.name} has no reward (None), so only people can compare: --teacher human")
    if judges_by_advantage(config.teacher):
        _check_advantage(config)
    if marks_late(config.teacher) and "marks" not in config.shares:
        raise UsageError(
            f"--teacher {config.teacher} marks steps late, and --feedback {config.feedback} asks for no marks"
        )
    if base_name(config.teacher) == JUDGE and config.judge.source is None:
        raise UsageError(f"--teacher {request.teacher} does not say which model judges: write judge:RUN or judge:FILE")
    return config


def _check_advantage(config: RunConfig) -> None:
    """Raise UsageError unless a run has what its teacher `advantage` needs, and asks what that can answer."""
    if config.kl.reference is None:
        raise UsageError(f"--teacher {config.teacher} judges by the values of another run: add --reference RUN")
    if "rating" in config.shares:
        raise UsageError(f"--teacher {config.teacher} answers comparisons and marks; ratings are of rewards")


def affordable(request: Request) -> int:
    """Return the number of labels that people give in `request.minutes`, by the median times of the feedback kinds.

    Raises:
        UsageError: if the number of labels is given, too, or the time is too short for a label.
    """
    if request.labels is not None:
        raise UsageError("--minutes and --labels are two ways to say how many labels are asked; use one of them")
    shares, minutes = feedback_shares(request.feedback), request.minutes or 0.0
    each = sum(share * KINDS[name].seconds for name, share in shares.items())
    labels = int(min(60 * minutes / each, 1e9)) if minutes > 0 else 0
    if labels < 1:
        raise UsageError(f"--minutes {minutes:g} is too short for a label, which takes {each:g} seconds")
    return labels


def task_settings(facts: TaskFacts, algo: str) -> Settings:
    """Return the settings of a task's agent, and the task's other settings."""
    agent = (IMAGES if facts.images else ALGOS).get(algo, {})
    return agent | TASKS.get(algo, {}).get(facts.name, {}) | SCALES.get(facts.name, {})


def _exploration(facts: TaskFacts, base: RunConfig, settings: Settings) -> Settings:
    """Return the exploration before the first labels and afterwards, of an agent that learns a reward of vectors.

    An agent that imitates demonstrations or is held near a reference does not explore, which would lead it away.
    """
    learns = base.takes_labels and settings["learner"] == REWARD_MODEL
    held = any(settings.get(name) for name in ("demonstrations.source", "kl.beta", "kl.target"))
    if settings["algo"] not in EXPLORERS or facts.images or held or not learns:
        return {}
    steps = min(EXPLORED_STEPS, round(EXPLORED_SHARE * settings.get("steps", base.steps)))
    first = settings.get("exploration.steps", steps) and not base.asks_people
    share = {"queries.initial_fraction": EXPLORED_LABELS} if first else {}
    return {"exploration.steps": steps, "exploration.state_entropy": STATE_ENTROPY} | share


def _entropy(facts: TaskFacts, algo: str, recipe: Recipe) -> Settings:
    """Return the paper's entropy bonus, for TRPO or the paper's recipe; other agents on vectors use none."""
    if facts.images or not (recipe.entropy_bonus or algo in PAPER_ENTROPY_ALGOS):
        return {}
    return PAPER_ENTROPY_TASKS.get(facts.name, PAPER_ENTROPY)


def _unknown_ends(facts: TaskFacts) -> Settings:
    """Return limits on the evaluation of other environments, whose episodes may never end or have no reward."""
    if not isinstance(facts, GymnasiumTask):
        return {}
    limit = {} if facts.horizon or facts.images else {"evaluation.max_steps": ENDLESS_STEPS}
    return limit | ({} if facts.true_reward else {"evaluation.episodes": 0})


def _human(facts: TaskFacts, algo: str) -> Settings:
    on_vectors = HUMAN_REPLAYS if ALGORITHMS[algo].family.replays else HUMAN
    return ({} if facts.images else on_vectors) | HUMAN_SCALES.get(facts.name, {})


def _recipe(facts: TaskFacts, algo: str, recipe: Recipe) -> Settings:
    layer = recipe.images | recipe.image_algos.get(algo, {}) if facts.images else recipe.vectors
    return layer | recipe.tasks.get(facts.name, {})


def _evaluation(facts: TaskFacts) -> Settings:
    """Return the interval of evaluations during training, for runs of millions of steps.

    Three episodes every 200 cost about 0.8 % of the time, and creating the environments at most as much again.
    Episodes without a time limit may be too long for this.
    """
    if facts.images or facts.horizon is None:
        return {}
    return {"evaluation.every": max(100_000, 200 * facts.horizon)}
