"""ResNet9: a narrow residual network with a stride-4 stem, made to train live on one CPU core."""

from jaxtyping import Float
from torch import Tensor, nn

from faces.encoders.convnet import block, halved


class Residual(nn.Module):
    """x + two convolutions of x, the size stays."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Sequential(*block(width, width), *block(width, width)[:2])

    def forward(self, x: Float[Tensor, "B W h w"]) -> Float[Tensor, "B W h w"]:
        return self.inner(x).add_(x).relu_()  # in place: nothing needs the sum again


class ResNet9(nn.Module):
    """A 4 x 4 patch stem and three stages of 32, 64 and 128 channels, one residual block each; 0.5 M parameters.

    The shape is DAWNBench's ResNet-9; the stride-4 stem makes a step cheap enough for one CPU core.
    """

    title = "small residual network, live on a laptop"
    source, born = "https://myrtle.ai/learn/how-to-train-your-resnet/", "2018-09"
    smallest = 16
    width = 32
    doublings = 2  # of the channels, each where the grid gets half as fine
    stem = (4, 4, 0)  # kernel, stride and padding, pixels

    def __init__(self, channels: int, size: int, dim: int):
        super().__init__()
        widths = [self.width << n for n in range(self.doublings + 1)]
        self.layers = nn.Sequential(
            nn.Conv2d(channels, widths[0], *self.stem, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True),
            Residual(widths[0]),
            *(layer for w in widths[:-1] for layer in (*halved(w, 2 * w), Residual(2 * w))),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], dim),
        )  # fmt: skip

    def forward(self, images: Float[Tensor, "B channels size size"]) -> Float[Tensor, "B dim"]:
        """Features of a batch of images of at least 16 px."""
        return self.layers(images)


class ResNet9Wide(ResNet9):
    """ResNet9 with twice the channels: 2.0 M parameters, and slower."""

    title = "ResNet9 with twice the channels, better and slower"
    source, born = "https://myrtle.ai/learn/how-to-train-your-resnet/", "2018-10"
    smallest = 16
    width = 64


class ResNet9Deep(ResNet9):
    """A stride-2 stem and four stages of 32, 64, 128 and 256 channels, one residual block each; 2.0 M parameters.

    DAWNBench's ResNet-9 with a fourth stage, for photographs of 128 px: 1.1 GFLOP an image there.
    """

    title = "four stages on a fine grid: for photographs of 128 px"
    source, born = "https://myrtle.ai/learn/how-to-train-your-resnet/", "2018-11"
    smallest = 16
    doublings = 3
    stem = (3, 2, 1)


class ResNet9Large(ResNet9Deep):
    """ResNet9Deep with twice the channels, 64 to 512: 7.9 M parameters, 4.2 GFLOP an image of 128 px; for a GPU."""

    title = "ResNet9Deep with twice the channels, on a GPU"
    source, born = "https://myrtle.ai/learn/how-to-train-your-resnet/", "2018-12"
    smallest = 16
    width = 64
