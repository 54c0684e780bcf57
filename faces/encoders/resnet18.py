"""ResNet18: torchvision's, the encoder of the article; from random or ImageNet weights."""

from jaxtyping import Float
from torch import Tensor, nn


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
        from torchvision.models import ResNet18_Weights, resnet18

        try:
            self.net = resnet18(weights=ResNet18_Weights.IMAGENET1K_V1 if pretrained else None)
        except OSError as why:
            raise ValueError(
                f"ImageNet weights could not be fetched ({why}). Connect to the network, or train from random weights."
            ) from why
        self.net.fc = nn.Linear(self.net.fc.in_features, dim)

    def forward(self, images: Float[Tensor, "B channels size size"]) -> Float[Tensor, "B dim"]:
        """Features of a batch; a single channel is repeated to three."""
        return self.net(images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1))
