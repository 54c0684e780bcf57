"""ResNet18: torchvision's, the encoder of the article; from random or ImageNet weights."""

import contextlib
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from faces.datasets.base import Listener, Progress, silent


class ResNet18(nn.Module):
    """torchvision's ResNet-18 with its classifier replaced by one linear layer; 11 M parameters.

    With `pretrained`, the weights are ImageNet's. Imagewoof is cut from ImageNet, so those weights have
    already seen most validation images with their labels: a pretrained run is labelled as such everywhere.
    They are fetched once, at the first such run; ValueError when that fails.
    """

    title = "the article's encoder; wants a GPU"
    source, born = "https://arxiv.org/abs/1512.03385", "2015-12"
    pretrained = True

    def __init__(self, channels: int, size: int, dim: int, pretrained: bool = False):
        super().__init__()
        from torchvision.models import resnet18

        self.net = resnet18()
        if pretrained:
            self.net.load_state_dict(self.weights())
        self.net.fc = nn.Linear(self.net.fc.in_features, dim)

    @staticmethod
    def weights(progress: Progress = silent) -> Mapping[str, Any]:
        """ImageNet's weights: torchvision's IMAGENET1K_V1, checked, and kept in torch's cache for the next time."""
        from torchvision.models import ResNet18_Weights

        heard = Listener("Downloading ImageNet weights", "%", progress, total=100)
        try:
            with contextlib.redirect_stderr(heard):
                return ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as why:
            raise ValueError(
                f"ImageNet weights could not be fetched ({why}). Connect to the network, or train from random weights."
            ) from why

    def forward(self, images: Float[Tensor, "B channels size size"]) -> Float[Tensor, "B dim"]:
        """Features of a batch; a single channel is repeated to three."""
        return self.net(images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1))
