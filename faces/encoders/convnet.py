"""ConvNet: three convolutions, for images of a few pixels such as the digits."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d


class ConvNet(nn.Module):
    """Three 3 x 3 convolutions (32, 64, 64) with batch norm, pooled to 2 x 2, then one linear layer."""

    title = "three convolutions, for tiny images"
    source, born = "http://yann.lecun.com/exdb/publis/pdf/lecun-01a.pdf", "1998-11"
    smallest = 2

    def __init__(self, channels: int, size: int, dim: int):
        super().__init__()
        self.layers = nn.Sequential(
            *block(channels, 32), *halved(32, 64), *block(64, 64),
            Quarters(), nn.Flatten(), nn.Linear(64 * 4, dim),
        )  # fmt: skip

    def forward(self, images: Float[Tensor, "B channels size size"]) -> Float[Tensor, "B dim"]:
        """Features of a batch of images of at least 2 px."""
        return self.layers(images)


class ConvNetSlim(nn.Module):
    """Three 3 x 3 convolutions (16, 32, 64) with batch norm, and a linear layer that still sees 4 x 4 places."""

    title = "three narrow convolutions, the quickest for tiny images"
    source, born = "http://yann.lecun.com/exdb/publis/pdf/lecun-01a.pdf", "1998-12"
    smallest = 2
    fixed = True  # it takes images of one size only

    def __init__(self, channels: int, size: int, dim: int):
        super().__init__()
        side = min(size // 2, 4)
        self.layers = nn.Sequential(
            *block(channels, 16), *halved(16, 32), *block(32, 64),
            *([nn.AdaptiveAvgPool2d(side)] if size // 2 > side else []), nn.Flatten(), nn.Linear(64 * side**2, dim),
        )  # fmt: skip

    def forward(self, images: Float[Tensor, "B channels size size"]) -> Float[Tensor, "B dim"]:
        """Features of a batch of images of at least 2 px."""
        return self.layers(images)


class Quarters(nn.Module):
    """The mean of each quarter of a map; quarters of an odd side share its middle.

    As AdaptiveAvgPool2d(2), whose gradient PyTorch does not promise to be the same again on a GPU.
    """

    def forward(self, maps: Float[Tensor, "B W h w"]) -> Float[Tensor, "B W 2 2"]:
        side = maps.shape[-1]
        return avg_pool2d(maps, (side + 1) // 2, side // 2) if side > 1 else maps.expand(-1, -1, 2, 2)


def block(wide_in: int, wide_out: int) -> tuple[nn.Module, ...]:
    """Convolution, batch norm, ReLU; the size stays."""
    return nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False), nn.BatchNorm2d(wide_out), nn.ReLU(inplace=True)


def halved(wide_in: int, wide_out: int) -> tuple[nn.Module, ...]:
    """A block, and the largest of each 2 x 2: taken before the ReLU, which leaves the same with a quarter to do."""
    convolution, norm, relu = block(wide_in, wide_out)
    return convolution, norm, nn.MaxPool2d(2), relu
