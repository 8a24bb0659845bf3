"""Reward learners of tiny networks, and looks into them."""

from helpers import laid_out, tiny_reward

from prefrl.experience.inputs import Inputs
from prefrl.reward.learner import RewardLearner


def make(library=None, *, features=4, length=5, seed=0, upto=None, **changes):
    made = RewardLearner(tiny_reward(**changes), Inputs((features,)), length, seed)
    if library is not None:
        made.add(library.comparisons(last=upto), library.read)
    return made


def held(learner):
    """The buffer's comparisons, by the first feature of their left segment."""
    return sorted(laid_out(learner)[0][:, 0, 0, 0].tolist())


def watch(monkeypatch, module, name):
    """Record the arguments and results of a function that a module calls."""
    real, calls = getattr(module, name), []

    def spy(*arguments):
        calls.append((arguments, real(*arguments)))
        return calls[-1][1]

    monkeypatch.setattr(module, name, spy)
    return calls
