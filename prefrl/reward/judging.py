"""The reward model of a judge: where it comes from, and how a run keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prefrl.arrays import Array
from prefrl.config import RunConfig
from prefrl.config.migrations import current_format, opened, stamped, upgraded
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.environments import reward_inputs
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.kinds.comparison import COMPARISON
from prefrl.feedback.run_store import run_store
from prefrl.feedback.terms import GivenAnswer, Query
from prefrl.machine.devices import choose_device
from prefrl.printable import printable
from prefrl.reward.answerable import Answerable
from prefrl.reward.answerable_inputs import fit_to_answers, input_width, query_inputs, segment_inputs
from prefrl.reward.dataset import ReadSegment
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.label_reader import LabelReader
from prefrl.reward.published import largest_weights
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import LARGEST_TREE, DamagedFileError, Tree, load_tree, save_tree, taken_from
from prefrl.teachers import Setting, make_other
from prefrl.teachers.judge import ANSWERS, JudgeTeacher, Predict, all_told, predictor
from prefrl.teachers.teacher import Teacher

_NEWEST = 2000
"""Answers from which a judge learns which queries can be told, the newest ones. It bounds the time with images."""


class JudgeModel(NamedTuple):
    """A fitted reward model and the configuration that it was fitted for."""

    path: Path
    config: RunConfig
    weights: Tree
    """The ensemble's arrays."""
    answerable: Tree | None = None
    """The content of the model that predicts which queries can be told; None if nothing is known of that."""

    def save(self, path: Path) -> None:
        """Write a file like that of `prefrl reward fit`."""
        about = described(self.config, self.answerable)
        save_tree(path, stamped("weights", {"weights": self.weights, "metrics": {}} | about))

    def ensemble(self) -> RewardEnsemble:
        """Return the reward model.

        Raises:
            DamagedFileError: if the weights are not those of the configured networks.
        """
        ensemble = RewardEnsemble(self.config.reward, reward_inputs(self.config))
        if sum(array.nbytes for array in self.weights.values()) > largest_weights(ensemble):
            raise DamagedFileError(f"{printable(self.path)} holds larger weights than can be right")
        with taken_from(self.path):
            ensemble.load_arrays(self.weights)
        return ensemble.to(choose_device(self.config.device) if self.config.images else "cpu").eval()

    def untold(self, ensemble: RewardEnsemble) -> Predict:
        """Return what predicts the probability that a query cannot be told; zero if nothing is known of that.

        Args:
            ensemble: The reward model.

        Raises:
            DamagedFileError: if the content is not that of such a model.
        """
        if self.answerable is None:
            return all_told
        with taken_from(self.path):
            width = input_width(ensemble.inputs, KINDS[COMPARISON].arity)
            model = Answerable.from_tree(self.answerable, width)

        def predict(queries: Sequence[Query]) -> Array:
            shown = (ensemble.inputs.features(segment) for query in queries for segment in query.segments)
            segments = segment_inputs(ensemble, shown)
            return model.predict(query_inputs(segments, np.arange(len(segments)).reshape(len(queries), -1)))

        return predict


def described(config: RunConfig, answerable: Tree | None = None) -> Tree:
    """Return the entries of a file of weights that a judge needs; see `JudgeModel`."""
    about = {"config": config.to_json(), "config_format": current_format("config")}
    return about | ({} if answerable is None else {"answerable": answerable})


def learned_answerable(
    config: RunConfig, given: Sequence[GivenAnswer], read: ReadSegment, ensemble: RewardEnsemble
) -> Tree | None:
    """Learn from a run's answers which queries can be told, and return the content of the model.

    Args:
        config: The run.
        given: Its answers.
        read: Reads their clips.
        ensemble: Its reward model.

    Returns:
        None if all queries were told, or the run asks for no comparisons.
    """
    if COMPARISON not in config.shares:
        return None
    own = [answer for answer in given if answer.kind == COMPARISON]
    model = fit_to_answers(own, lambda segment: read(segment)[0], ensemble, config.seed)
    return None if model is None else model.to_tree()


def judge_for(config: RunConfig) -> JudgeModel:
    """Get a new run's judge from its source.

    Args:
        config: The run; `judge.source` says where it comes from.

    Raises:
        UsageError: if there is no such run or file, or its task, kind of feedback or inputs are others.
        PrefrlError: if it has no reward model yet, or its files are damaged.
    """
    if not config.judge.source:
        raise UsageError("--teacher judge: does not say which model judges: write judge:RUN or judge:FILE")
    path = Path(config.judge.source).expanduser()
    if not path.exists():
        raise UsageError(f"--teacher judge:{path}: there is no such run or file")
    found = _of_run(path) if path.is_dir() else load_judge(path)
    _check(found, config)
    ensemble = found.ensemble()
    found = found._replace(answerable=_learned_of_run(path, ensemble)) if path.is_dir() else found
    found.untold(ensemble)
    return found


def load_judge(path: Path) -> JudgeModel:
    """Read a file of `prefrl reward fit`, or a run's copy.

    Raises:
        UsageError: if it was written by a newer version, or holds no reward model that can judge.
        PrefrlError: if it is missing or damaged.
    """
    try:
        tree = load_tree(path, LARGEST_TREE)
    except FileNotFoundError:
        raise PrefrlError(f"{printable(path)} is missing") from None
    if "weights" not in tree:
        raise UsageError(f"{printable(path)} holds no reward model")
    tree = opened("weights", tree, path)
    if "config" not in tree:
        raise UsageError(
            f"{path} does not say which task it is for: give the run, or a file of `prefrl reward fit --out FILE`"
        )
    with taken_from(path):
        config = upgraded("config", tree["config"], int(tree["config_format"]), path)
        weights = dict(tree["weights"])
    try:
        return JudgeModel(path, RunConfig.from_json(config), weights, tree.get("answerable"))
    except UsageError as error:
        raise DamagedFileError(f"{printable(path)} is damaged: {error}") from None


def _of_run(root: Path) -> JudgeModel:
    run = RunDirectory.open(root)
    if not run.config.learns_reward:
        raise UsageError(f"the judge {printable(root)} {run.config.unrewarded}")
    if not run.weights.exists():
        raise PrefrlError(f"{root} has no learned reward yet")
    tree = opened("weights", load_tree(run.weights, LARGEST_TREE), run.weights)
    with taken_from(run.weights):
        return JudgeModel(run.weights, run.config, dict(tree["weights"]))


def _learned_of_run(root: Path, ensemble: RewardEnsemble) -> Tree | None:
    run = RunDirectory.open(root)
    if not run.labels.exists():
        return None
    with run_store(run) as store:
        reader = LabelReader(run, store, ensemble.inputs)
        return learned_answerable(run.config, reader.given(most=_NEWEST), reader.read, ensemble)


def _check(found: JudgeModel, config: RunConfig) -> None:
    """Raise UsageError unless a judge can answer a run's queries."""
    theirs, source = found.config, config.judge.source
    if (theirs.env_id, theirs.env_kwargs) != (config.env_id, config.env_kwargs):
        raise UsageError(f"the judge {source} is for {theirs.task}, not {config.task}")
    if wrong := sorted(config.shares.keys() - ANSWERS.keys()):
        raise UsageError(f"a judge answers {_and(ANSWERS)} queries only, but the run asks for {_and(wrong)} queries")
    if missing := config.shares.keys() - theirs.shares.keys():
        raise UsageError(
            f"the judge {source} learned from {_and(theirs.shares)}, but the run asks for {_and(missing)} queries"
        )
    if theirs.frame_stack != config.frame_stack or theirs.images != config.images:
        raise UsageError(f"the judge {source} reads other observations than {config.task} has")


def _and(kinds: Iterable[str]) -> str:
    return " and ".join(kinds)


def make_judge(setting: Setting) -> Teacher:
    """Create a run's judge, for the registry of teachers."""
    run, notes = setting.run, setting.notes
    if run is None or notes is None:
        raise UsageError("a judge answers in runs only")
    judge = load_judge(run.judge)
    predict = predictor((ensemble := judge.ensemble()).predict_preferences)
    return JudgeTeacher(predict, run.config.judge, notes, make_other(setting), judge.untold(ensemble))
