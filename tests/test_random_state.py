"""torch's random states in checkpoints, including simulated GPUs."""

import pytest
import torch
from helpers import Library, same_tree, through_file, tiny_reward
from stable_baselines3 import PPO

from prefrl.agents.state import load_on_policy_state, on_policy_state
from prefrl.experience.inputs import Inputs
from prefrl.machine.random_state import TorchRandomState, load_random_state, random_state
from prefrl.reward.learner import RewardLearner


class GPUs:
    """Stands in for `torch.cuda`: each GPU's random state is a counter, which a draw moves on."""

    def __init__(self, count):
        self.states = [torch.tensor([100 * gpu], dtype=torch.uint8) for gpu in range(count)]

    def install(self, monkeypatch):
        for name in ("device_count", "get_rng_state", "set_rng_state", "get_rng_state_all", "manual_seed_all"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        for name, value in {"is_available": True, "is_initialized": True, "current_device": 0}.items():
            monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
        return self

    def device_count(self):
        return len(self.states)

    def get_rng_state(self, device):
        return self.states[device].clone()

    def get_rng_state_all(self):
        return [state.clone() for state in self.states]

    def set_rng_state(self, state, device):
        self.states[device] = state.clone()

    def manual_seed_all(self, seed):
        self.states = [torch.tensor([seed % 256], dtype=torch.uint8) for _ in self.states]

    def draw(self, device):
        self.states[device] = self.states[device] + 1
        return int(self.states[device])


def test_without_a_gpu_the_state_is_the_cpu_s(tmp_path):
    saved = through_file(tmp_path, random_state())
    drawn = torch.rand(3)
    load_random_state(saved)
    assert saved["gpu_rng"] == {}
    assert torch.equal(torch.rand(3), drawn)


def test_every_gpu_s_state_is_saved_and_restored(tmp_path, monkeypatch):
    gpus = GPUs(2).install(monkeypatch)
    saved = through_file(tmp_path, random_state())
    drawn = [gpus.draw(device) for device in (0, 1, 1)]
    load_random_state(saved)
    assert [gpus.draw(device) for device in (0, 1, 1)] == drawn


def test_gpus_that_nothing_computes_on_are_left_alone(monkeypatch):
    """Asking for a GPU's random state would take hold of it."""
    gpus = GPUs(1).install(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", None)
    assert random_state()["gpu_rng"] == {}
    assert gpus.draw(0) == 1


def test_a_state_of_more_gpus_or_of_an_older_version_is_read(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        GPUs(2).install(patched)
        saved = through_file(tmp_path, random_state())
    fewer = GPUs(1).install(monkeypatch)
    fewer.draw(0)
    load_random_state(saved)
    assert fewer.draw(0) == 1
    load_random_state({"torch_rng": saved["torch_rng"]})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    load_random_state(saved)


def agent():
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu", seed=0)
    model._setup_learn(8)
    return model


def test_where_there_is_no_gpu_one_s_state_is_passed_over(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: pytest.fail("there is no GPU"))
    load_random_state({"torch_rng": torch.get_rng_state(), "gpu_rng": {"0": torch.tensor([1], dtype=torch.uint8)}})


def test_an_agent_s_checkpoint_holds_the_gpus_states(tmp_path, monkeypatch):
    model = agent()
    gpus = GPUs(1).install(monkeypatch)
    saved = through_file(tmp_path, on_policy_state(model))
    drawn = [gpus.draw(0) for _ in range(3)]
    load_on_policy_state(model, saved, simulators_restored=True)
    assert [gpus.draw(0) for _ in range(3)] == drawn


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_what_is_drawn_for_one_part_leaves_everybody_else_s_states_alone(device, monkeypatch):
    gpus, used = GPUs(2).install(monkeypatch), int(device == "cuda:1")
    before = random_state()
    one, same = TorchRandomState(7, device), TorchRandomState(7, device)
    drawn = []
    for chance in (one, same, one):
        with chance.drawn():
            drawn.append((gpus.draw(used), torch.rand(1).item()))
    assert drawn[0] == drawn[1] != drawn[2]
    own = torch.Generator().manual_seed(7)
    assert [number for _, number in drawn[::2]] == [torch.rand(1, generator=own).item() for _ in range(2)]
    assert (drawn[0][0], drawn[2][0]) == (8, 9)
    # torch seeds every GPU when it is seeded; those that the part does not use are nobody's then.
    after = random_state()
    assert torch.equal(before["torch_rng"], after["torch_rng"])
    assert torch.equal(before["gpu_rng"][str(used)], after["gpu_rng"][str(used)])


def test_one_part_s_states_continue_from_a_checkpoint(tmp_path, monkeypatch):
    gpus = GPUs(1).install(monkeypatch)
    through, resumed = TorchRandomState(7, "cuda"), TorchRandomState(80, "cuda")
    with through.drawn():
        gpus.draw(0)
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()))
    drawn = []
    for chance in (through, resumed):
        with chance.drawn():
            drawn.append((gpus.draw(0), torch.rand(1).item()))
    assert drawn[0] == drawn[1]
    resumed.load_state_dict(TorchRandomState(7, "cpu").state_dict())  # a run that goes on on a GPU


def test_a_learner_on_the_cpu_draws_and_saves_nothing_of_a_gpu(monkeypatch):
    GPUs(1).install(monkeypatch)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _: None)
    before = random_state()
    library = Library(40)
    learner = RewardLearner(tiny_reward(), Inputs((4,)), 5, 0)
    learner.add(library.comparisons(), library.read)
    learner.train(40)
    assert learner.state_dict()["gpu_rng"] == {}
    assert same_tree(before, random_state())
