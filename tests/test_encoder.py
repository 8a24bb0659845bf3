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
