import itertools

import numpy as np
import pytest
from gymnasium import spaces
from helpers import through_file
from hypothesis import given
from hypothesis import strategies as st

from prefrl.agents import replay
from prefrl.agents.replay import MemorySteps, ReplayMemory

BOX = spaces.Box(-2.0, 6.0, (2,), np.float32)


def memory(capacity=10, envs=2, actions=BOX, piece=3):
    made = ReplayMemory(capacity * envs, spaces.Box(-np.inf, np.inf, (3,), np.float64), actions, "cpu", n_envs=envs)
    made._piece = piece
    return made


def fill(made, count, start=0):
    """Add steps whose numbers tell the step and the environment."""
    for step in range(start, start + count):
        seen = np.array([[step, env, 0.5] for env in range(made.n_envs)])
        actions = np.full((made.n_envs, 2), (step % 5) / 4 * 2 - 1)
        made.add(seen, seen + 1, actions, np.full(made.n_envs, -step), np.arange(made.n_envs) == step % 7, [{}, {}])


def content(made):
    names = (*replay._KEPT, "rewards", "pos", "full", "added")
    return {name: np.array(getattr(made, name)) for name in names}


def same(one, other):
    for name, array in content(one).items():
        np.testing.assert_array_equal(array, content(other)[name], err_msg=name)


def test_vectors_are_stored_in_single_precision_and_rewards_can_be_rewritten():
    made = memory()
    fill(made, 4)
    assert made.observations.dtype == made.next_observations.dtype == np.float32
    steps = MemorySteps(made)
    steps.write(np.arange(8.0))
    assert made.rewards[:5].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [0, 0]]
    assert made.sample(100).rewards.unique().tolist() == list(range(8))


def test_features_are_the_observation_and_the_action_as_it_was_taken():
    made = memory()
    fill(made, 3)
    features = made.features(made.newest(2))
    assert features.shape == (2, 2, 5)
    # Step 1's action is -0.5 of [-1, 1], which is 0 of [-2, 6]; step 2's is 0, which is 2.
    assert features[0].tolist() == [[1, 0, 0.5, 0, 0], [1, 1, 0.5, 0, 0]]
    assert features[1].tolist() == [[2, 0, 0.5, 2, 2], [2, 1, 0.5, 2, 2]]


@pytest.mark.parametrize("shape", [(2, 3), (3, 1), (2, 2)])
def test_features_of_actions_of_several_dimensions_are_in_a_row(shape):
    low = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    made = ReplayMemory(12, spaces.Box(0, 1, (1,), np.float32), spaces.Box(low, low + 2), "cpu", n_envs=3)
    for _ in range(2):
        made.add(np.zeros((3, 1)), np.zeros((3, 1)), np.zeros((3, *shape)), np.zeros(3), np.zeros(3), 3 * [{}])
    found = made.features(made.newest(2))
    assert found.shape == (2, 3, 1 + low.size)
    np.testing.assert_array_equal(found[..., 1:], np.broadcast_to(low.ravel() + 1, (2, 3, low.size)))


def test_features_of_discrete_actions_are_one_hot():
    made = ReplayMemory(8, spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(3), "cpu", n_envs=2)
    made.add(np.array([[0.25], [0.75]]), np.zeros((2, 1)), np.array([2, 0]), np.zeros(2), np.zeros(2), [{}, {}])
    assert made.features(made.newest(1)).tolist() == [[[0.25, 0, 0, 1], [0.75, 1, 0, 0]]]


def test_the_memory_s_steps_come_in_parts_in_the_order_in_which_rewards_are_written(monkeypatch):
    monkeypatch.setattr(replay, "_PART", 6)
    made = memory()
    fill(made, 13)  # of which the memory holds 10
    parts = list(MemorySteps(made))
    assert [len(part) for part in parts] == [6, 6, 6, 2]
    MemorySteps(made).write(np.concatenate(parts)[:, 0])
    np.testing.assert_array_equal(made.rewards, made.observations[:, :, 0])
    assert made.newest(4).tolist() == [9, 0, 1, 2]
    assert made.observations[made.newest(4), 0, 0].tolist() == [9, 10, 11, 12]


@given(st.integers(1, 12), st.integers(1, 5), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_it_comes_back_whole_from_pieces_of_which_each_is_written_once(capacity, piece, additions):
    made, disk = memory(capacity, piece=piece), {}
    for count in additions:
        fill(made, count, start=made.added)
        pieces = made.pieces()
        disk = {name: disk[name] if name in disk else make() for name, make in pieces.items()}
        state = made.state_dict()
        restored = memory(capacity, piece=piece)
        fill(restored, 2)  # which is overwritten
        restored.load_state_dict({name: np.copy(v) if name == "rewards" else v for name, v in state.items()}, disk)
        held = min(made.added, capacity)
        for name in replay._KEPT:
            np.testing.assert_array_equal(getattr(restored, name)[:held], getattr(made, name)[:held], err_msg=name)
        np.testing.assert_array_equal(restored.rewards[:held], made.rewards[:held])
        assert (restored.pos, restored.full, restored.added) == (made.pos, made.full, made.added)
        assert len(state["tail"]["actions"]) < piece


def test_a_piece_is_never_made_again_while_it_is_needed():
    made = memory(10, piece=3)
    names = []
    for _ in range(24):
        fill(made, 1, start=made.added)
        names.append(set(made.pieces()))
    assert names[2] == {"000000000000000000000003"}
    assert names[9] == {f"{start:012d}{end:012d}" for start, end in ((0, 3), (3, 6), (6, 9), (9, 10))}
    for before, after in itertools.pairwise(names):
        gone = before - after
        assert all(name not in later for name in gone for later in names[names.index(after) :])


def test_it_comes_back_in_a_larger_memory_if_it_was_not_full(tmp_path):
    made, larger = memory(10, piece=4), memory(25, piece=4)
    fill(made, 10)
    pieces = {name: make() for name, make in made.pieces().items()}
    larger.load_state_dict(through_file(tmp_path, made.state_dict()), pieces)
    np.testing.assert_array_equal(larger.observations[:10], made.observations)
    np.testing.assert_array_equal(larger.rewards[:10], made.rewards)
    assert (larger.pos, larger.full) == (10, False)
    # The last piece ended where the smaller memory did; the larger one makes a piece of its own from that place.
    assert set(larger.pieces()) & set(pieces) == {f"{0:012d}{4:012d}", f"{4:012d}{8:012d}"}
    fill(larger, 5, start=10)
    again = memory(25, piece=4)
    again.load_state_dict(larger.state_dict(), {name: make() for name, make in larger.pieces().items()})
    same(again, larger)


@pytest.mark.parametrize("size", [12, 25])
@pytest.mark.parametrize("piece", [1, 4, 20])
def test_a_memory_that_its_run_overran_comes_back_in_a_larger_one(tmp_path, piece, size):
    made, larger = memory(10, piece=piece), memory(size, piece=piece)
    fill(made, 12)
    larger.load_state_dict(
        through_file(tmp_path, made.state_dict()), {name: make() for name, make in made.pieces().items()}
    )
    steps = [10, 11, *range(2, 12)]  # in place of the two that are lost, those that had overwritten them
    assert larger.observations[:12, 0, 0].tolist() == steps
    assert larger.rewards[:12, 1].tolist() == [-step for step in steps]
    assert (larger.pos, larger.full, larger.added) == (12 % size, size == 12, 12)


def test_a_memory_of_one_step_comes_back_in_a_larger_one():
    made, larger = memory(1), memory(5)
    fill(made, 2)
    larger.load_state_dict(made.state_dict(), {name: make() for name, make in made.pieces().items()})
    assert larger.observations[:2, 0, 0].tolist() == [1, 1]


def test_a_full_memory_does_not_come_back_in_a_size_that_its_run_exceeds():
    made = memory(10)
    fill(made, 13)
    pieces = {name: make() for name, make in made.pieces().items()}
    for other in (memory(12), memory(9)):
        with pytest.raises(ValueError, match="another size"):
            other.load_state_dict(made.state_dict(), pieces)


@pytest.mark.parametrize(
    ("added", "capacity"), [(-1, 10), (10**15, 10**18), (5, -5), (5, 11), (12, 11), (11, 4), (5, 0)]
)
def test_counts_that_cannot_be_are_refused_at_once(added, capacity):
    made = memory(10)
    fill(made, 5)
    with pytest.raises(ValueError, match="another size"):
        made.load_state_dict(made.state_dict() | {"added": added, "capacity": capacity}, {})


def test_the_size_of_pieces_depends_on_the_steps_alone():
    small, large = (
        ReplayMemory(count, spaces.Box(0, 1, (100,), np.float32), BOX, "cpu", n_envs=2) for count in (1000, 50_000)
    )
    assert small._piece == large._piece
    bytes_each = sum(getattr(large, name)[0].nbytes for name in replay._KEPT)
    assert replay._PIECE_BYTES / 2 < large._piece * bytes_each <= replay._PIECE_BYTES
    assert large.nbytes == 25_000 * bytes_each + large.rewards.nbytes


def test_a_part_of_each_batch_is_of_the_newest_steps():
    made = memory(100)
    fill(made, 230)
    np.random.seed(0)  # noqa: NPY002
    everywhere = made.sample(4000).observations[:, 0].numpy()
    assert (everywhere >= 225).mean() == pytest.approx(0.05, abs=0.02)
    assert (made.recent, made.recent_fraction) == (0, 0)
    made.recent, made.recent_fraction = 10, 0.25  # 5 steps of each environment
    drawn = made.sample(4000).observations[:, 0].numpy()
    assert drawn.min() >= 130
    assert (drawn >= 225).mean() == pytest.approx(0.25 + 0.75 * 0.05, abs=0.03)
    fresh = memory(100)
    fill(fresh, 3)
    fresh.recent, fresh.recent_fraction = 1000, 1.0
    assert set(fresh.sample(100).observations[:, 0].tolist()) == {0, 1, 2}


def test_returns_of_several_steps_end_with_the_episode_and_with_the_newest_step():
    made = ReplayMemory(20, spaces.Box(0, 1, (1,), np.float32), BOX, "cpu", n_envs=2, n_steps=3, gamma=0.5)
    for step in range(6):  # environment 0 terminates at step 2, environment 1 is cut off there
        ends = np.array([step == 2, step == 2])
        infos = [{}, {"TimeLimit.truncated": step == 2}]
        made.add(
            np.full((2, 1), step), np.full((2, 1), step + 0.5), np.zeros((2, 2)), np.full(2, 2.0**step), ends, infos
        )
    made.rewards[5] = 100.0  # as if relabelled
    drawn = made.sample(500)
    found = {
        (int(at), round(float(reward), 3), float(discount), float(done), float(after))
        for at, reward, discount, done, after in zip(
            drawn.observations, drawn.rewards, drawn.discounts, drawn.dones, drawn.next_observations, strict=True
        )
    }
    both = {(3, 8 + 8 + 25, 0.125, 0, 5.5), (4, 16 + 50, 0.25, 0, 5.5), (5, 100, 0.5, 0, 5.5)}
    first = {(0, 1 + 1 + 1, 0.125, 1, 2.5), (1, 2 + 2, 0.25, 1, 2.5), (2, 4, 0.5, 1, 2.5)}
    second = {(at, reward, discount, 0, after) for at, reward, discount, _, after in first}
    assert found == both | first | second


def test_a_part_has_at_least_a_step_and_images_stay_bytes(monkeypatch):
    monkeypatch.setattr(replay, "_PART", 1)
    images = ReplayMemory(8, spaces.Box(0, 255, (1, 2, 2), np.uint8), spaces.Discrete(2), "cpu", n_envs=2)
    assert images.observations.dtype == images.next_observations.dtype == np.uint8
    for step in range(3):
        seen = np.full((2, 1, 2, 2), step, np.uint8)
        images.add(seen, seen, np.zeros(2), np.zeros(2), np.zeros(2), [{}, {}])
    parts = list(MemorySteps(images))
    assert [part.shape for part in parts] == [(2, 1, 2, 2)] * 3
    assert [int(part.max()) for part in parts] == [0, 1, 2]


class Doubling:
    """A normalisation that doubles observations."""

    def normalize_obs(self, observations):
        return 2 * observations

    def normalize_reward(self, rewards):
        return rewards


def test_the_raw_observations_of_a_batch_are_kept_beside_the_normalised_ones():
    made = memory()
    fill(made, 8)
    batch = made.sample(50, Doubling())
    observations, following = made.drawn
    np.testing.assert_array_equal(batch.observations, 2 * observations)
    np.testing.assert_array_equal(batch.next_observations, 2 * following)
    np.testing.assert_array_equal(following, observations + 1)
    assert set(observations[:, 0]) <= set(range(8))
