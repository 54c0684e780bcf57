"""Settings: complete, exact, and refused in a sentence."""

import math

import numpy as np
import pytest

from faces.datasets import DATASETS
from faces.heads import HEADS
from trainer import RunConfig
from trainer.comparison import SEVEN
from trainer.presets import PRESETS


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


def test_a_record_from_before_a_setting_existed_takes_its_default():
    text = RunConfig().to_json().replace('"held_out": 0, ', "")
    assert "held_out" not in text
    assert RunConfig.from_json(text) == RunConfig()


def test_a_record_from_before_images_could_be_warped_means_what_it_meant():
    text = RunConfig().to_json().replace(', "warp": 0.0', "")
    assert "warp" not in text
    assert RunConfig.from_json(text) == RunConfig()
    assert (RunConfig().encoder, RunConfig().warp) == ("ConvNet", 0.0)


@pytest.mark.parametrize("shown_whole", [{"augment": False}, {"frozen_from": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}])
def test_what_is_shown_as_it_is_is_not_warped(shown_whole):
    assert RunConfig(warp=0.2).warp == 0.2
    assert RunConfig(warp=0.2, **shown_whole).warp == 0


def test_what_suits_a_dataset_is_a_set_of_valid_settings():
    for name, data in DATASETS.items():
        config = RunConfig(dataset=name, **data.terms)
        assert all(getattr(config, term) == value for term, value in data.terms.items())


def test_the_default_s_follows_from_the_classes_that_are_trained_on():
    assert RunConfig(held_out=3).knobs["s"] == pytest.approx(math.sqrt(2) * math.log(6))


def test_a_simplex_needs_room_for_the_classes_that_are_trained_on_only():
    assert RunConfig(head="ETF", dim=6, held_out=3).dim == 6
    with pytest.raises(ValueError, match="6 numbers or more for 7 classes, not 5"):
        RunConfig(head="ETF", dim=5, held_out=3)


def test_which_classes_are_held_out_depends_on_the_seed_alone():
    for seed in range(20):
        few, many = (RunConfig(held_out=count, seed=seed).unseen(10) for count in (3, 5))
        assert list(few) == sorted(set(few))
        assert set(few) < set(many) < set(range(10))
        assert np.array_equal(few, RunConfig(head="CosFace", held_out=3, seed=seed, lr=0.01).unseen(10))
    assert len({tuple(RunConfig(held_out=3, seed=seed).unseen(10)) for seed in range(20)}) > 10
    assert len(RunConfig().unseen(10)) == 0


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
        ({"held_out": 9}, "held_out = 9 leaves 1 of 10.*0, or 2 to 8 can be held out"),
        ({"held_out": 1}, "held_out = 1 has no second class.*0, or 2 or more"),
        ({"held_out": 200}, "held_out = 200 leaves 0 of 10.*0, or 2 to 8"),
        ({"held_out": -1}, "held_out = -1"),
        ({"optimizer": "adam"}, "adam.*sgd"),
        ({"pretrained": True}, "ConvNet has no pretrained weights"),
        ({"head": "ETF", "dim": 8}, "ETF needs embeddings of 9 numbers or more for 10 classes, not 8"),
        ({"crop": 6}, "Crops of 6 px are drawn at random, but Digits is shown as it is"),
        ({"dataset": "imagewoof", "crop": 65}, "Crops of 65 px cannot be cut from images of 64 px"),
        ({"dataset": "imagewoof", "crop": 8}, "ResNet9 needs images of 16 px or more, not 8"),
        ({"dataset": "imagewoof", "crop": 1, "encoder": "ConvNet"}, "ConvNet needs images of 2 px or more, not 1"),
        ({"dataset": "imagewoof", "crop": 32, "augment": False}, "32 px are drawn at random, but augment is off"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence_that_names_it(wrong, said):
    with pytest.raises(ValueError, match=said) as refused:
        RunConfig(**wrong)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_set_of_valid_settings_for_every_head_of_the_article(name):
    for head in SEVEN:
        config = RunConfig(head=head, **PRESETS[name].terms)
        assert config.knobs.get("m", 0.25) == 0.25
        assert config.knobs.get("k", 3) == 3
