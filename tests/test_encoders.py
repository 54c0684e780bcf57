"""Encoders: the promises that hold for every one of them, and pictures of embeddings that need no projection."""

import numpy as np
import pytest
import torch

from faces.encoders import ENCODERS
from faces.heads import HEADS
from faces.model import EncoderWithHead
from trainer import RunConfig, train
from trainer.pictures import draw
from trainer.store import Store


@pytest.mark.parametrize(("channels", "dim"), [(1, 2), (3, 3), (3, 128)])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_turns_images_into_features_and_learns(name, channels, dim):
    size = 8 if name == "ConvNet" else 32
    model = EncoderWithHead(ENCODERS[name](channels, size, dim), HEADS["ArcFace"](dim, 4))
    images, labels = torch.rand(4, channels, size, size), torch.arange(4)
    assert model.encoder(images).shape == (4, dim)
    assert torch.allclose(model.embed(images).norm(dim=1), torch.ones(4), atol=1e-5)
    torch.nn.functional.cross_entropy(model(images, labels), labels).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    assert model(images).shape == (4, 4)


@pytest.mark.parametrize("name", ENCODERS)
def test_what_an_encoder_declares_is_what_it_has(name):
    about = ENCODERS.about(name)
    assert (about.title, about.born, about.source) == (ENCODERS[name].title, ENCODERS[name].born, ENCODERS[name].source)


def test_pretrained_weights_that_cannot_be_fetched_are_one_sentence(monkeypatch):
    import torchvision

    def offline(weights):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "resnet18", offline)
    with pytest.raises(ValueError, match=r"could not be fetched .*random weights"):
        ENCODERS["ResNet18"](3, 64, 128, pretrained=True)


@pytest.mark.parametrize("axes", [2, 3])
def test_embeddings_of_two_or_three_numbers_are_drawn_on_the_circle_or_the_sphere(axes, tmp_path):
    store = Store(tmp_path)
    config = RunConfig(dim=axes, epochs=1, batch=256, probe=100)
    folder = store.folder(store.submit(config))
    *_, last = train(config)
    draw(folder, last, f"pca-{axes}")
    points = folder.points(f"pca-{axes}", last.step)
    assert np.allclose(np.linalg.norm(points.points, axis=1), 1, atol=1e-5)
    assert np.array_equal(points.centers, last.centers)
