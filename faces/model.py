"""EncoderWithHead: what is trained. Images go in; logits, or embeddings, come out."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from faces.heads.base import Head


class EncoderWithHead(nn.Module):
    """An encoder and the head on top of it.

    With labels the logits are the training logits, margin and all; without, the inference logits that
    any score must be taken from.
    """

    head: Head

    def __init__(self, encoder: nn.Module, head: Head):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self, images: Float[Tensor, "B channels size size"], labels: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B C"]:
        """Training logits when labels are given, inference logits otherwise."""
        features = self.encoder(images)
        return self.head(features) if labels is None else self.head(features, labels)

    def loss(self, images: Float[Tensor, "B channels size size"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """What training makes smaller, as the head says."""
        return self.head.loss(self.encoder(images), labels)

    def embed(self, images: Float[Tensor, "B channels size size"]) -> Float[Tensor, "B D"]:
        """Unit-length rows, ready for KNN and pictures, whatever the head trained on."""
        return normalize(self.encoder(images), eps=1e-6)
