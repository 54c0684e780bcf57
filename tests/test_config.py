"""Settings: complete, exact, and refused in a sentence."""

import math

import pytest

from faces.heads import HEADS
from trainer import RunConfig


@pytest.mark.parametrize("head", HEADS)
def test_what_is_left_out_is_filled_in(head):
    config = RunConfig(head=head)
    assert set(config.knobs) == set(HEADS.about(head).knobs)
    assert (config.size, config.encoder) == (8, "ConvNet")


def test_the_default_s_follows_from_the_classes():
    assert RunConfig(head="ArcFace").knobs["s"] == pytest.approx(math.sqrt(2) * math.log(9))


@pytest.mark.parametrize("head", HEADS)
def test_a_record_survives_json(head):
    config = RunConfig(head=head, epochs=3, lr=0.01, seed=7)
    assert RunConfig.from_json(config.to_json()) == config
    assert RunConfig.from_json(config.to_json()).key == config.key


def test_a_record_is_readable_when_its_dataset_is_gone():
    text = RunConfig().to_json().replace('"digits"', '"gone"')
    assert RunConfig.from_json(text).dataset == "gone"


def test_a_newer_record_is_refused():
    with pytest.raises(ValueError, match="version 99"):
        RunConfig.from_json(RunConfig().to_json().replace('"version": 1', '"version": 99'))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"head": "FaceNet"}, "FaceNet.*ArcFace"),
        ({"dataset": "mnist"}, "mnist.*digits"),
        ({"encoder": "VGG"}, "VGG.*ResNet9"),
        ({"size": 64}, "64 px.*8"),
        ({"epochs": 0}, "epochs = 0.*1 to 200"),
        ({"epochs": 2.5}, "epochs = 2.5.*whole number"),
        ({"lr": float("nan")}, "lr = nan"),
        ({"noise": 25}, "25 % noise"),
        ({"drop_duplicates": True}, "Digits has no list of near duplicates"),
        ({"knobs": {"margin": 0.5}}, r"\['margin'\].*'s', 'm'"),
        ({"knobs": {"m": 9}}, "m = 9"),
        ({"optimizer": "adam"}, "adam.*sgd"),
        ({"pretrained": True}, "ConvNet has no pretrained weights"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence_that_names_it(wrong, said):
    with pytest.raises(ValueError, match=said) as refused:
        RunConfig(**wrong)
    assert "\n" not in str(refused.value)
