"""What a reward model reads of steps: the image alone, or the observation and then the action."""

import numpy as np
import pytest

from prefrl.encoder import encode


def test_a_vector_is_followed_by_its_action():
    observations = np.arange(12, dtype=np.float64).reshape(2, 3, 2)
    encoded = encode(observations, np.array([[10.0], [20.0]], np.float32))
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[0, 1, 2, 3, 4, 5, 10], [6, 7, 8, 9, 10, 11, 20]]


def test_a_rollout_s_steps_are_those_of_its_environments():
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 2, 4)).astype(np.float32)
    encoded = encode(observations, actions, axes=2)
    assert encoded.shape == (5, 2, 7)
    for env in range(2):
        np.testing.assert_array_equal(encoded[:, env], encode(observations[:, env], actions[:, env]))


@pytest.mark.parametrize(("shape", "axes"), [((5, 8, 9), 1), ((5, 3, 8, 9), 1), ((5, 2, 3, 8, 9), 2)])
def test_images_are_read_as_they_are(shape, axes):
    images = np.zeros(shape, np.uint8)
    assert encode(images, np.zeros((*shape[:axes], 4), np.float32), axes) is images


def test_bytes_in_a_row_are_a_vector():
    ram = np.array([[0, 255]], np.uint8)
    assert encode(ram, np.ones((1, 1), np.float32)).tolist() == [[0, 255, 1]]


def test_features_of_images_are_the_images_and_of_anything_else_rows_of_single_precision():
    pictures = np.arange(2 * 3 * 4 * 8 * 9).reshape(2, 3, 4, 8, 9).astype(np.uint8)
    assert encode(pictures, np.ones((2, 3, 2), np.float32), 2) is pictures
    grey = pictures[:, :, 0]
    assert encode(grey, np.ones((2, 3, 2), np.float32), 2) is grey
    grids = np.arange(2 * 3 * 4.0).reshape(2, 3, 2, 2)
    rows = encode(grids, np.full((2, 3, 2), 0.5, np.float32), 2)
    assert (rows.shape, rows.dtype) == ((2, 3, 6), np.float32)
    assert rows[1, 2].tolist() == [20.0, 21.0, 22.0, 23.0, 0.5, 0.5]


def test_actions_are_drawn_beside_images_where_they_are_to_be_read():
    """Two numbers on five columns: the first has the first three; tanh(-1) to 30.4 of 255, 0 to the middle."""
    images = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    encoded = encode(images, np.array([[-1.0, 0.0], [9.0, 1.0]], np.float32), reads_actions=True)
    assert (encoded.dtype, encoded.shape) == (np.uint8, (2, 4, 4, 5))
    np.testing.assert_array_equal(encoded[:, :3], images)
    assert encoded[0, 3].tolist() == [[30, 30, 30, 128, 128]] * 4
    assert encoded[1, 3].tolist() == [[255, 255, 255, 225, 225]] * 4


def test_actions_are_drawn_in_a_rollout_as_in_its_environments():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 2, 4, 6, 7), dtype=np.uint8)
    actions = rng.normal(size=(5, 2, 3)).astype(np.float32)
    encoded = encode(images, actions, axes=2, reads_actions=True)
    for env in range(2):
        np.testing.assert_array_equal(encoded[:, env], encode(images[:, env], actions[:, env], reads_actions=True))


def test_vectors_are_read_with_the_action_in_any_case():
    observations, actions = np.ones((2, 3), np.float32), np.zeros((2, 1), np.float32)
    np.testing.assert_array_equal(encode(observations, actions, reads_actions=True), encode(observations, actions))


@pytest.mark.parametrize("axes", [1, 2])
def test_actions_of_several_dimensions_are_drawn_number_by_number(axes):
    shape, actions = (5, 2)[:axes], np.array([[0.0, 1.0, -1.0], [0.5, 2.0, 3.0]], np.float32)
    images = np.zeros((*shape, 3, 4, 6), np.uint8)
    encoded = encode(images, np.broadcast_to(actions, (*shape, 2, 3)), axes, reads_actions=True)
    assert encoded.shape == (*shape, 4, 4, 6)
    assert encoded.reshape(-1, 4, 4, 6)[-1, 3, 0].tolist() == [128, 225, 30, 186, 250, 254]
