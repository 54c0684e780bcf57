"""Encoders: the promises that hold for every one of them, and pictures of embeddings that need no projection."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torchvision.models import ResNet18_Weights, resnet18

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


def test_pretrained_weights_that_cannot_be_fetched_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", "http://127.0.0.1:9/resnet18-00000000.pth")
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


def test_pretrained_weights_are_fetched_with_progress_checked_and_kept(tmp_path, monkeypatch):
    torch.save(resnet18().state_dict(), tmp_path / "made.pth")
    mark = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()[:8]
    (tmp_path / "made.pth").rename(tmp_path / f"resnet18-{mark}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/resnet18-{mark}.pth"
    monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", address)
    told = []
    weights = ENCODERS["ResNet18"].weights(told.append)
    server.shutdown()
    assert (told[-1].done, told[-1].total) == (100, 100)
    encoder = ENCODERS["ResNet18"](3, 64, 128, pretrained=True)  # with the server gone
    assert torch.equal(encoder.net.conv1.weight, weights["conv1.weight"])


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass
