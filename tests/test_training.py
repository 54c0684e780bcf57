"""Training: the same again, resumed as if uninterrupted, turned while it runs, and honest about scores."""

import gc
import math
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from faces.datasets import find
from faces.datasets.own import import_folder
from faces.heads import HEADS
from faces.model import EncoderWithHead
from trainer import RunConfig, batches, train, training
from trainer import feed as feed_module
from trainer.engines.local import cores
from trainer.feed import Feed, divided
from trainer.measuring import predicted
from trainer.muon import Muon, orthogonal
from trainer.presets import PRESETS
from trainer.snapshot import ARRAYS, Snapshot
from trainer.training import TrainingError, fresh_model, fresh_optimizer, in_turn, restored, spread_out, turns
from trainer.worker import pack, unpack

few = settings(max_examples=25, deadline=None, derandomize=True)
SHORT = {"epochs": 1, "batch": 256, "dim": 16, "probe": 100}


def weights(snapshot: Snapshot) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in snapshot.state()["tensors"].items()}


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def last(config: RunConfig, **more) -> tuple[Snapshot, dict[str, np.ndarray]]:
    for snapshot in train(config, **more):
        if snapshot.last:
            return snapshot, weights(snapshot)
    raise AssertionError("training ended before its last step")


@pytest.fixture
def photographs(faces_home, tmp_path) -> str:
    """Own images of two classes, noise of two colours, at 32 px."""
    draw = np.random.default_rng(0)
    for row in range(60):
        image = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8) // (1, 2, 4)[:: 1 - 2 * (row % 2)]
        (tmp_path / "noise" / "ab"[row % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "noise" / "ab"[row % 2] / f"{row}.png")
    data = import_folder(tmp_path / "noise", "noise")
    data.prepare(32)
    return data.name


@pytest.mark.parametrize("head", HEADS)
def test_every_head_trains_to_high_accuracy_on_digits(head):
    snapshot, _ = last(RunConfig(head=head, epochs=4, probe=100))
    assert snapshot.metrics["knn_accuracy"] > 0.97
    assert snapshot.metrics["ncm_accuracy"] > 0.95
    assert ("dnn_accuracy" in snapshot.metrics) == HEADS[head].scored
    assert (snapshot.predictions == snapshot.labels).mean() > 0.95
    assert snapshot.metrics["asked"] == 500
    assert snapshot.metrics["known"] == 1297


@pytest.mark.parametrize("head", ["ArcFace", "AdaCos", "CurricularFace"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_same_settings_give_the_same_weights_bit_for_bit(head, optimizer):
    config = RunConfig(head=head, optimizer=optimizer, **SHORT)
    (one, ones), (other, others) = last(config), last(config)
    assert equal(ones, others)
    assert np.array_equal(one.embeddings, other.embeddings)
    _, different = last(RunConfig(head=head, optimizer=optimizer, **SHORT, seed=1))
    assert not equal(ones, different)


@pytest.mark.parametrize(("head", "cut"), [("ArcFace", 1), *((head, 7) for head in HEADS)])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(head, cut):
    config = RunConfig(head=head, **{**SHORT, "epochs": 2})
    _, whole = last(config)
    steps = 0

    def stopped() -> bool:
        nonlocal steps
        steps += 1
        return steps >= cut

    *_, stop = train(config, stopped=stopped)
    assert 0 < stop.step < stop.steps
    _, resumed = last(config, start=unpack(pack(stop)))
    assert equal(whole, resumed)


def test_a_knob_turned_while_training_takes_effect_at_the_next_step_and_is_recorded():
    config = RunConfig(head="ArcFace", **SHORT)
    asked = 0

    def turned() -> dict[str, float]:
        nonlocal asked
        asked += 1
        return {"m": 0.4, "s": 8.0} if asked > 3 else {}

    snapshots = list(train(config, turned=turned))
    assert snapshots[-1].turned == ((3, "m", 0.4), (3, "s", 8.0))
    assert snapshots[-1].knobs["m"] == 0.4
    assert snapshots[0].knobs["m"] == 0.25
    _, untouched = last(config)
    assert not equal(weights(snapshots[-1]), untouched)


def test_a_resumed_run_keeps_the_knobs_that_were_turned():
    config = RunConfig(head="CosFace", **{**SHORT, "epochs": 2})
    wish = {"m": 0.4}
    _, whole = last(config, turned=lambda: wish)
    count = iter(range(100))
    *_, stop = train(config, turned=lambda: wish, stopped=lambda: next(count) >= 4)
    assert equal(whole, last(config, start=unpack(pack(stop)))[1])


def test_snapshots_come_at_the_start_after_each_epoch_and_at_the_end():
    config = RunConfig(**{**SHORT, "epochs": 3})
    snapshots = list(train(config))
    assert snapshots[0].step == 0
    assert [s.epoch for s in snapshots if s.metrics.get("known")] == [1.0, 2.0, 3.0]
    assert snapshots[-1].last
    assert len(snapshots[-1].embeddings) == 500
    assert np.allclose(np.linalg.norm(snapshots[-1].embeddings, axis=1), 1, atol=1e-5)
    assert (snapshots[0].rows == snapshots[-1].rows[: len(snapshots[0].rows)]).all()  # the picture's images stay


def test_a_long_epoch_moves_the_screen_before_it_ends(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("trainer.training.time.perf_counter", lambda: next(clock) * 0.5)
    epochs = [snapshot.epoch for snapshot in train(RunConfig(**SHORT))]
    assert any(0 < epoch < 1 for epoch in epochs)


def test_scores_are_taken_from_logits_that_saw_no_label():
    """A margin of one makes training logits of the true class the smallest; the score must not notice."""
    config = RunConfig(head="CosFace", knobs={"m": 1.0}, epochs=3)
    snapshot, _ = last(config)
    assert snapshot.metrics["dnn_accuracy"] > 0.9
    assert snapshot.metrics["dnn_accuracy"] == (snapshot.predictions == snapshot.labels).mean()


def test_all_heads_start_from_the_same_encoder_and_length_one():
    images = find("digits").load(8)
    models = [fresh_model(RunConfig(head=head, **SHORT), images) for head in HEADS]
    first = models[0].encoder.state_dict()
    for model in models:
        assert all(torch.equal(first[name], value) for name, value in model.encoder.state_dict().items())
        for weight in model.head.parameters():
            assert weight.ndim < 2 or torch.allclose(weight.norm(dim=-1), torch.ones(()), atol=1e-6)  # 1: a bias


def test_a_loss_that_is_no_number_fails_within_one_step_with_a_hint(monkeypatch):
    monkeypatch.setattr(EncoderWithHead, "loss", lambda self, x, y: self.head.weight.sum() * torch.nan)
    with pytest.raises(TrainingError, match=r"step 1 .*m = 0.25.*learning rate"):
        list(train(RunConfig(**SHORT)))


def test_a_slow_encoder_shows_fewer_images_within_an_epoch_and_all_after_it(monkeypatch):
    quick, step, clock = training.Probe.features, EncoderWithHead.loss, SimpleNamespace(now=0.0)

    def slow(self, model, rows, progress):
        clock.now += len(rows) / 100  # that after an epoch takes as long as 150 steps within a share of a tenth
        return quick(self, model, rows, progress)

    def steady(self, images, labels):
        clock.now += 1.0
        return step(self, images, labels)

    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(training, "LIVE_GAP", (2.0, 2.0))
    monkeypatch.setattr(training, "LIVE_SHARE", 0.1)
    monkeypatch.setattr(training.Probe, "features", slow)
    monkeypatch.setattr(EncoderWithHead, "loss", steady)
    shots = list(train(RunConfig(epochs=2, dim=16, batch=16, probe=500)))
    within = [len(shot.embeddings) for shot in shots if shot.epoch % 1]
    assert within == sorted(within, reverse=True)
    assert within[-1] == training.FEWEST
    assert [len(shot.embeddings) for shot in shots if shot.epoch in (1, 2)] == [500, 500]
    assert any(1 < shot.epoch < 2 for shot in shots)  # what the look after an epoch took is not waited for again
    few = next(shot for shot in shots if len(shot.embeddings) == training.FEWEST)
    assert "dnn_accuracy" not in few.metrics  # too few images for a share
    assert np.array_equal(few.rows, shots[-1].rows[: training.FEWEST])


def test_looks_within_an_epoch_see_as_many_images_as_leave_time_for_the_next():
    config = RunConfig(**{**SHORT, "probe": 400})
    probe = training.Probe(config, Feed(config, "cpu"), lambda _: None)
    longest = training.LIVE_SHARE * training.LIVE_GAP[1]
    assert probe.settle(longest) == longest
    assert probe.glance == config.probe
    assert probe.settle(3 * longest) == 0.75 * longest
    assert probe.glance == config.probe // 4
    for _ in range(3):  # the machine has time again
        probe.settle(longest / 100)
    assert probe.glance == config.probe
    probe.settle(1e6)
    assert probe.glance == training.FEWEST


def test_crops_are_cut_where_the_moves_say_and_scores_see_whole_images():
    pixels = torch.arange(2 * 16 * 16 * 3).remainder(251).to(torch.uint8).view(2, 16, 16, 3)
    by, mirrored = batches.moves(2, 16, seed=3, step=7, crop=12)
    assert 0 <= by.min() <= by.max() <= 4
    crops = batches.moved(pixels, by, mirrored, 12)
    for image, crop, (down, right), flipped in zip(pixels, crops, by, mirrored, strict=True):
        window = image[down : down + 12, right : right + 12]
        assert torch.equal(crop, window.flip(1) if flipped else window)
    flat = torch.full((1, 16, 16, 3), 200, dtype=torch.uint8)
    assert torch.allclose(batches.ready(flat, 12), batches.ready(flat)[:, :, :12, :12], atol=1e-5)


@pytest.mark.parametrize("optimizer", ["momentum", "sgd"])
def test_a_constant_learning_rate_stays(optimizer):
    snapshot, kept = last(RunConfig(**SHORT, lr=0.01, schedule="constant", optimizer=optimizer))
    assert snapshot.metrics["dnn_accuracy"] > 0.2
    assert not equal(kept, last(RunConfig(**SHORT, lr=0.01, optimizer=optimizer))[1])


def test_training_leaves_the_threads_and_the_random_numbers_of_its_caller_alone():
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(train(RunConfig(**SHORT)))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(cores() < 2, reason="This machine has one core.")
def test_several_threads_train_when_asked_for_never_more_than_cores_and_alike_each_time():
    seen = set()
    config = RunConfig(**SHORT, threads=64)
    first = last(config, moved=lambda *_: seen.add(torch.get_num_threads()))[1]
    assert seen == {min(64, cores())}
    assert equal(first, last(config)[1])


def test_images_are_moved_by_whole_pixels_and_mirrored_at_the_edges():
    image = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4, 1)
    right = batches.moved(image, torch.tensor([[0, 1]]), torch.tensor([False]))[0, :, :, 0]
    assert right[0].tolist() == [1, 2, 3, 2]
    flipped = batches.moved(image, torch.tensor([[0, 0]]), torch.tensor([True]))[0, :, :, 0]
    assert flipped[0].tolist() == [3, 2, 1, 0]
    down = batches.moved(image, torch.tensor([[-1, 0]]), torch.tensor([False]))[0, :, :, 0]
    assert down[:, 0].tolist() == [4, 0, 4, 8]


def test_images_are_warped_by_no_more_than_asked_and_stay_as_they_are_without():
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    still = torch.eye(2, 3)[None]
    assert torch.allclose(batches.warped(image, still), image, atol=1e-4)
    right = still + torch.tensor([[0, 0, 0.25], [0, 0, 0]])  # a quarter of half the side is one pixel
    assert torch.allclose(batches.warped(image, right)[..., :7], image[..., 1:], atol=1e-4)
    assert torch.allclose(batches.warped(image, right)[..., 7], image[..., 7], atol=1e-4)
    maps = batches.warps(200, 3, 4, 0.1)
    assert 0.09 < (maps - still).abs().max() <= 0.1
    assert torch.equal(maps, batches.warps(200, 3, 4, 0.1))
    assert not torch.equal(maps, batches.warps(200, 3, 5, 0.1))


def test_resized_crops_show_a_part_as_large_as_asked_in_every_place():
    maps = batches.areas(2000, 3, 4, 0.35)
    wide, high = maps[:, 0, 0].abs(), maps[:, 1, 1]
    share, shape = wide * high, wide / high
    assert 0.3 < share.min() < 0.4  # a wide part of nearly all of an image would stick out, and is cut
    assert 0.95 < share.max() <= 1
    assert 0.75 - 1e-4 <= shape.min() < 0.8
    assert 1.25 < shape.max() <= 4 / 3 + 1e-4
    assert 0.4 < (maps[:, 0, 0] < 0).float().mean() < 0.6  # mirrored
    for move, side in ((maps[:, 0, 2], wide), (maps[:, 1, 2], high)):
        assert ((move.abs() + side) <= 1 + 1e-6).all()  # never beyond an edge
        assert (move > 0.3).any()
        assert (move < -0.3).any()
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    shown = batches.warped(image, torch.tensor([[[0.5, 0, 0.5], [0, 0.5, -0.5]]]))  # the upper right quarter
    assert shown[0, 0].mean() == pytest.approx(image[0, 0, :4, 4:].mean().item(), abs=0.5)


@pytest.mark.parametrize(
    "more",
    [{"area": 0.35}, {"area": 0.5, "crop": 24}, {"grow": 0.6}, {"optimizer": "muon"}, {"schedule": "flat"},
     {"knobs": {"smoothing": 0.2}}],
)  # fmt: skip
def test_a_quick_training_is_resumed_bit_for_bit_and_is_another_than_without(more, photographs):
    terms = {"head": "Classification", "dataset": photographs, "size": 32, "epochs": 2, "batch": 8, "dim": 8}
    config = RunConfig(**{**terms, **more})
    _, whole = last(config)
    count = iter(range(100))
    *_, stop = train(config, stopped=lambda: next(count) >= 6)
    assert 0 < stop.step < stop.steps
    assert equal(whole, last(config, start=unpack(pack(stop)))[1])
    assert not equal(whole, last(RunConfig(**terms))[1])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_what_is_resumed_lies_in_memory_as_weights_do(optimizer):
    """A GPU's optimizers refuse to mix layouts."""
    config = RunConfig(**SHORT, optimizer=optimizer)
    *_, stop = train(config, stopped=lambda: True)
    model = fresh_model(config, find("digits").load(8)).to(memory_format=torch.channels_last)
    moved = fresh_optimizer(model, config)
    assert restored(model, moved, unpack(pack(stop)))["step"] == stop.step
    same = [
        (weight, value)
        for weight, kept in moved.state.items()
        for value in kept.values()
        if value.shape == weight.shape
    ]
    assert len(same) >= len(list(model.parameters()))
    assert all(value.stride() == weight.stride() for weight, value in same)


def test_growing_images_have_three_sizes():
    fed = Feed(RunConfig(**SHORT, grow=0.6, encoder="ConvNet"), "cpu")
    sides = [fed.batch(step)[0].shape[-1] for step in range(5)]
    assert sides == [4, 4, 6, 8, 8]
    with pytest.raises(ValueError, match="any size"):
        RunConfig(grow=0.5, encoder="ConvNetSlim")
    with pytest.raises(ValueError, match="area 1"):
        RunConfig(area=0.5)


@few
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 99))
def test_muon_keeps_directions_and_makes_every_length_about_one(rows, columns, seed):
    matrix = torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(seed))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    strong = s > 0.05 * s.sum(1, keepdim=True)  # others are still on their way up
    stretched = torch.einsum("nir,nij,nrj->nr", u, found, v)
    assert ((stretched > 0.4) & (stretched < 1.4))[strong].all()
    rest = found - torch.einsum("nir,nr,nrj->nij", u, stretched, v)
    assert rest.abs().max() < 1e-3
    assert torch.allclose(orthogonal(3 * matrix), found, atol=1e-4)


def test_muon_moves_what_is_no_filter_as_sgd_does():
    terms = {"weight_decay": 0.01, "lr": 0.1}
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(one.state_dict())
    pair = Muon(one.parameters(), **terms), torch.optim.SGD(other.parameters(), momentum=0.9, nesterov=True, **terms)
    for _ in range(3):
        for model, optimizer in zip((one, other), pair, strict=True):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
    assert torch.allclose(one.weight, other.weight, atol=1e-6)


def test_warped_training_is_resumed_bit_for_bit_and_is_another_than_without():
    terms = {**SHORT, "encoder": "ConvNetSlim", "epochs": 2}
    config = RunConfig(**terms, warp=0.1)
    _, whole = last(config)
    count = iter(range(100))
    *_, stop = train(config, stopped=lambda: next(count) >= 6)
    assert equal(whole, last(config, start=unpack(pack(stop)))[1])
    assert not equal(whole, last(RunConfig(**terms))[1])


@pytest.mark.parametrize("head", ["Classification", "ArcFace"])
def test_the_live_settings_reach_99_percent_on_digits(head):
    snapshot, _ = last(RunConfig(head=head, **PRESETS["live"].terms))
    assert snapshot.metrics["knn_accuracy"] >= 0.99


@pytest.mark.parametrize("warp", [0.0, 0.1])
def test_heads_that_train_in_turn_see_batches_made_once_and_end_as_they_do_alone(warp, monkeypatch):
    terms = {**SHORT, "encoder": "ConvNetSlim", "warp": warp}
    configs = [RunConfig(head=head, **terms) for head in ("ArcFace", "CurricularFace", "Triplet", "Quadruplet")]
    configs += [RunConfig(**{**terms, "batch": 128}), RunConfig(**terms, seed=1)]  # these see other batches
    made, make = [], Feed._batch
    monkeypatch.setattr(Feed, "_batch", lambda self, step: made.append((id(self), step)) or make(self, step))
    ends, met = {}, []
    for index, moment in in_turn(configs, "cpu"):
        met.append(index)
        if moment.last:
            ends[index] = weights(moment)
    assert met[:6] == [0, 1, 2, 3, 4, 5]  # all begin before one goes on
    assert len({name for name, _ in made}) == 4
    assert len(made) == len(set(made))
    for index, config in enumerate(configs):
        assert equal(ends[index], last(config)[1])
    gc.collect()
    assert not feed_module._feeds


class Waits(TorchDispatchMode):
    """Fails where a GPU would be waited for: a number read from the device, or a shape that hangs on its content."""

    HOLD = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "is_nonzero", "equal")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split("::")[1]
        by = args[1] if name.startswith("index") and isinstance(args[1], list) else []
        if name.startswith(self.HOLD) or any(at is not None and at.dtype in (torch.bool, torch.uint8) for at in by):
            raise AssertionError(f"{func.name()} makes the processor wait for the GPU.")
        return func(*args, **(kwargs or {}))


WAITING = {"Triplet", "Quadruplet", "SupCon", "Circle", "ProxyAnchor"}  # what they count hangs on each batch's labels


@pytest.fixture
def on_its_way(monkeypatch):
    """A GPU's way: bfloat16, fused optimizers, no loss there before the next look, and none before the epoch's end."""
    monkeypatch.setenv("FACES_AS_GPU", "1")
    monkeypatch.setattr(training, "done", lambda device: lambda: False)
    monkeypatch.setattr(training, "LIVE_GAP", (math.inf, math.inf))


def walk(config: RunConfig, steps: int) -> None:
    """A look, a step that makes an epoch's order and constants, and so many steps that must not wait."""
    taken = turns(config, device="cpu")
    assert next(taken).step == 0
    assert next(taken) is None
    with Waits():
        assert [next(taken) for _ in range(steps)] == [None] * steps


@pytest.mark.parametrize("head", HEADS)
def test_no_step_waits_for_the_device_but_of_heads_that_say_so(head, on_its_way):
    config = RunConfig(head=head, **{**SHORT, "warp": 0.1, "ramp": 0.5})
    if head not in WAITING:
        walk(config, 3)
    else:
        with pytest.raises(AssertionError, match="wait"):
            walk(config, 1)


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
@pytest.mark.parametrize("more", [{"crop": 24}, {"area": 0.35}, {"area": 0.5, "crop": 24}, {"grow": 0.6}])
def test_no_step_on_photographs_waits_for_the_device(optimizer, more, photographs, on_its_way):
    terms = {"dataset": photographs, "size": 32, "epochs": 1, "batch": 8, "dim": 8}
    walk(RunConfig(**terms, optimizer=optimizer, **more), 4)
    with pytest.raises(AssertionError, match="wait"), Waits():
        torch.ones(()).item()


@pytest.mark.parametrize(
    "more", [{}, {"crop": 24}, {"warp": 0.1}, {"area": 0.5}, {"area": 0.5, "crop": 24}, {"grow": 0.6, "area": 0.5}]
)
def test_images_filters_and_their_gradients_have_channels_last(more, photographs, monkeypatch):
    config = RunConfig(dataset=photographs, size=32, epochs=1, batch=8, dim=8, optimizer="muon", **more)
    given, loss = [], EncoderWithHead.loss

    def looked(self, images, labels):
        filters = [weight for weight in self.parameters() if weight.ndim == 4]
        given.extend([images, *filters, *(weight.grad for weight in filters if weight.grad is not None)])
        return loss(self, images, labels)

    monkeypatch.setattr(EncoderWithHead, "loss", looked)
    list(islice(turns(config, device="cpu"), 6))
    assert len({len(tensor) for tensor in given}) > 1
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in given)


def test_losses_that_come_late_are_told_late_and_one_that_is_no_number_ends_the_run(monkeypatch):
    given, told, loss = [], [], EncoderWithHead.loss

    def late(device):
        given.append(mine := len(given) + 1)
        return lambda: len(given) >= mine + 3

    def broken(self, images, labels):
        return loss(self, images, labels) * (torch.nan if len(given) == 2 else 1)

    monkeypatch.setattr(training, "done", late)
    monkeypatch.setattr(EncoderWithHead, "loss", broken)
    with pytest.raises(TrainingError, match="step 3 "):
        list(train(RunConfig(**{**SHORT, "batch": 64}), moved=lambda step, steps, loss: told.append(step)))
    assert told == [1, 2]
    assert len(given) == 6


def test_order_and_moves_depend_on_their_counters_only():
    assert torch.equal(batches.order(50, 1, 2), batches.order(50, 1, 2))
    assert not torch.equal(batches.order(50, 1, 2), batches.order(50, 1, 3))
    assert sorted(batches.order(50, 1, 2).tolist()) == list(range(50))
    one, other = batches.moves(9, 64, 3, 4), batches.moves(9, 64, 3, 5)
    assert not torch.equal(one[0], other[0])
    assert one[0].abs().max() <= 8


@few
@given(
    sizes=st.lists(st.integers(4, 60), min_size=1, max_size=12),
    batch=st.integers(8, 64),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 99),
)
def test_a_balanced_order_holds_every_image_once_and_classes_in_fours(sizes, batch, seed, epoch):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    order = batches.balanced_order(labels, seed, epoch)
    assert sorted(order.tolist()) == list(range(len(labels)))
    assert torch.equal(order, batches.balanced_order(labels, seed, epoch))
    whole = sum(size // 4 for size in sizes) * 4
    groups = labels[order[:whole]].view(-1, 4)
    assert (groups == groups[:, :1]).all()
    for size in range(4, whole, 4):  # every beginning holds the classes in proportion, but for one group
        held = torch.bincount(groups[: size // 4, 0], minlength=len(sizes))
        share = torch.tensor([count // 4 for count in sizes]) * size / whole
        assert (held - share).abs().max() <= 2.5


def test_a_class_of_fewer_images_than_a_group_is_seen_like_any_other():
    labels = torch.tensor([0] * 62 + [1] * 62 + [2] * 3)
    seen = [(labels[batches.balanced_order(labels, 0, epoch)[:64]] == 2).sum().item() for epoch in range(40)]
    assert set(seen) <= {0, 1, 2, 3}
    assert 0.3 < sum(seen) / 120 < 0.7  # about half of its images in half of an epoch


def test_balanced_batches_hold_several_images_of_several_classes_and_use_each_image_alike():
    images = find("digits").load(8)
    labels = torch.from_numpy(images.labels[images.train_rows])
    steps = len(labels) // 64
    used = torch.zeros(len(labels))
    for epoch in range(50):
        order = batches.balanced_order(labels, 0, epoch)[: steps * 64]
        used[order] += 1
        for batch in order.split(64):
            counts = torch.bincount(labels[batch])
            assert (counts > 0).sum() >= 8
    assert used.min() > 35  # of 50; in a plain order they are as often in the part that no step sees
    assert used.mean() == pytest.approx(50 * steps * 64 / len(labels))


def test_every_beginning_of_the_probe_holds_the_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    rows = spread_out(np.arange(1000), labels)
    assert sorted(rows.tolist()) == list(range(1000))
    for count in (50, 200, 500):
        assert np.abs(np.bincount(labels[rows[:count]]) / count - [0.6, 0.3, 0.1]).max() < 0.02


HELD_OUT = RunConfig(held_out=3, **{**SHORT, "epochs": 4})


@pytest.mark.parametrize("head", HEADS)
def test_a_last_look_tells_every_score_of_its_head(head):
    kind, (snapshot, _) = HEADS[head], last(RunConfig(head=head, held_out=3, **SHORT))
    names = {"asked", "known", "loss", "knn_accuracy", "map_at_r", "r_precision", "silhouette", "effective_rank"}
    names |= {"eer", "rank1", "tar_at_far_0.1", "tar_at_far_0.01", "tar_at_far_0.001"}
    if kind.scored:
        names |= {"dnn_accuracy", "dnn_accuracy_with_labels"}
    if len(snapshot.centers):
        names |= {"own_angle", "other_angle", "train_own_angle", "train_other_angle"}
    assert names <= set(snapshot.metrics)
    assert all(type(value) is float and np.isfinite(value) for value in snapshot.metrics.values())
    shares = [value for name, value in snapshot.metrics.items() if name.startswith("center_share_")]
    each = len(snapshot.centers) // 7
    assert len(shares) == (each if each > 1 else 0)
    assert shares == sorted(shares, reverse=True)
    assert not shares or sum(shares) == pytest.approx(1)


def test_classes_held_out_are_met_only_at_the_last_look():
    snapshots = list(train(HELD_OUT))
    out = set(HELD_OUT.unseen(10))
    for snapshot in snapshots:
        for labels in (snapshot.labels, snapshot.known_labels, snapshot.center_labels, snapshot.predictions):
            assert not out & set(labels)
        assert set(snapshot.center_labels) == set(range(10)) - out
    assert not any(len(snapshot.unseen) for snapshot in snapshots[:-1])
    images, final = find("digits").load(8), snapshots[-1]
    assert set(final.unseen_labels) == out
    assert len(final.unseen) == np.isin(images.labels[images.val_rows], list(out)).sum()
    assert final.metrics["asked"] == 500 - len(final.unseen)
    assert np.array_equal(final.labels, images.labels[final.rows])  # the dataset's own numbers, not the head's


def test_with_classes_held_out_the_others_are_learned_and_the_unseen_are_told_apart_better_than_by_chance():
    *_, final = train(HELD_OUT)
    assert final.metrics["dnn_accuracy"] > 0.95
    assert (final.predictions == final.labels).mean() == final.metrics["dnn_accuracy"]
    assert final.metrics["own_angle"] < final.metrics["other_angle"] / 2  # centers carry the right labels
    assert final.metrics["eer"] < 0.35
    assert final.metrics["rank1"] > 0.6


def test_with_classes_held_out_too_a_resumed_run_equals_an_uninterrupted_one():
    _, whole = last(HELD_OUT)
    count = iter(range(100))
    *_, stop = train(HELD_OUT, stopped=lambda: next(count) >= 4)
    final, resumed = last(HELD_OUT, start=unpack(pack(stop)))
    assert equal(whole, resumed)
    assert len(final.unseen)


def test_an_image_of_a_held_out_class_is_not_trained_on_under_a_wrong_label(monkeypatch):
    true = find("digits").load(8)
    noisy = replace(true, labels=np.where(true.val, true.labels, (true.labels + 1) % 10))
    data = SimpleNamespace(load=lambda size, noise=0: noisy if noise else true)
    monkeypatch.setattr("trainer.feed.find", lambda name: data)
    config = RunConfig(held_out=3)
    object.__setattr__(config, "noise", 10)
    parts, out = divided(config, noisy), config.unseen(10)
    assert len(parts.train)
    assert not np.isin(true.labels[parts.train], out).any()
    assert not np.isin(noisy.labels[parts.train], out).any()


def test_logits_that_saw_the_label_score_below_those_that_did_not_and_change_nothing():
    config = RunConfig(head="CosFace", knobs={"m": 1.0}, epochs=2)
    snapshot, before = last(config)
    assert snapshot.metrics["dnn_accuracy_with_labels"] < snapshot.metrics["dnn_accuracy"] - 0.1
    for head in ("AdaCos", "CurricularFace"):
        model = fresh_model(RunConfig(head=head, dim=16), find("digits").load(8)).eval()
        before = {name: value.clone() for name, value in model.head.state_dict().items()}
        predicted(model.head, torch.randn(9, 16), torch.arange(9))
        assert all(torch.equal(before[name], value) for name, value in model.head.state_dict().items())


def test_the_last_look_at_all_images_tells_how_far_it_is():
    told = []
    list(train(RunConfig(**SHORT), progress=told.append))
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert (told[-1].done, told[-1].total, told[-1].unit) == (1797, 1797, "images")


def test_a_snapshot_of_an_older_faces_has_met_nothing_unseen(tmp_path, monkeypatch):
    snapshot, _ = last(RunConfig(**SHORT))
    monkeypatch.setattr("trainer.snapshot.ARRAYS", tuple(name for name in ARRAYS if "unseen" not in name))
    (tmp_path / "a.safetensors").write_bytes(snapshot.to_bytes())
    monkeypatch.undo()
    back = Snapshot.read(tmp_path / "a.safetensors")
    assert len(back.unseen) == len(back.unseen_labels) == 0


def test_a_snapshot_survives_its_file(tmp_path):
    snapshot, _ = last(RunConfig(**SHORT))
    (tmp_path / "a.safetensors").write_bytes(snapshot.to_bytes())
    back = Snapshot.read(tmp_path / "a.safetensors")
    assert back.facts == snapshot.facts
    assert np.array_equal(back.embeddings, snapshot.embeddings)
    assert np.array_equal(back.knn, snapshot.knn)


def test_no_two_snapshots_of_a_run_share_a_step_however_knobs_are_turned():
    wishes = iter({"m": 0.1 + 0.01 * turn} for turn in range(1000))
    steps = [snapshot.step for snapshot in train(RunConfig(**{**SHORT, "epochs": 3}), turned=lambda: next(wishes))]
    assert len(steps) == len(set(steps))


def test_a_run_resumed_after_its_last_step_ends_with_the_same_snapshot():
    config = RunConfig(**SHORT)
    *_, whole = train(config)
    (again,) = train(config, start=unpack(pack(whole)))
    assert again.last
    assert np.array_equal(again.embeddings, whole.embeddings)
    assert again.metrics["knn_accuracy"] == whole.metrics["knn_accuracy"]
