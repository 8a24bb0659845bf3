"""The agent's policy and convolutional networks for images."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticCnnPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from prefrl.machine.image_input import ImageConvolution
from prefrl.machine.precision import image_precision

IMAGE_NETWORKS: dict[str, tuple[tuple[tuple[int, int, int], ...], int]] = {
    "nature": (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),
    "small": (((16, 8, 4), (32, 4, 2)), 256),
}
"""((filters, kernel size, stride) of each convolution, number of features). `nature` is the network of Mnih et al.
(2015), as in Stable-Baselines3 and the paper. `small` is that of Mnih et al. (2013), with a third of the work."""


class PolicyCNN(BaseFeaturesExtractor):
    """Feature extractor shared by policy and value function.

    It uses the channels-last memory format, which takes a third less CPU time than channels first.
    """

    def __init__(self, observation_space: spaces.Box, network: str = "nature") -> None:
        """Initialise the network.

        Args:
            observation_space: Space of images, channels first.
            network: A name in `IMAGE_NETWORKS`.
        """
        convolutions, features = IMAGE_NETWORKS[network]
        super().__init__(observation_space, features)
        channels = observation_space.shape[0]
        layers: list[nn.Module] = []
        for filters, size, stride in convolutions:
            convolution = nn.Conv2d if layers else ImageConvolution
            layers += [convolution(channels, filters, size, stride), nn.ReLU(inplace=True)]
            channels = filters
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            flat = self.cnn(torch.zeros(1, *observation_space.shape)).shape[1]
        self.linear = nn.Sequential(nn.Linear(flat, features), nn.ReLU(inplace=True))

    def forward(self, observations: Tensor) -> Tensor:
        """Map (N, C, H, W) images, bytes or numbers in [0, 1], to (N, features)."""
        with image_precision(observations.device):
            features: Tensor = self.linear(self.cnn(observations))
        return features.float()


class ImagePolicy(ActorCriticCnnPolicy):
    """A policy whose network converts the images itself, as Stable-Baselines3 does but for rounding, and faster.

    All image spaces of environments are uint8 in [0, 255], to which the adapter scales others.
    """

    def extract_features(  # type: ignore[override]
        self, obs: Tensor, features_extractor: BaseFeaturesExtractor | None = None
    ) -> Tensor:
        """Extract features from (N, C, H, W) bytes: (N, features)."""
        features: Tensor = (features_extractor or self.features_extractor)(obs)
        return features

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """Return the distribution of actions, from the same features as `forward`."""
        features = self.extract_features(obs, self.pi_features_extractor)  # type: ignore[arg-type]
        return self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(features))

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Return the (N, 1) values, from the same features as `forward`."""
        features = self.extract_features(obs, self.vf_features_extractor)  # type: ignore[arg-type]
        values: Tensor = self.value_net(self.mlp_extractor.forward_critic(features))
        return values
