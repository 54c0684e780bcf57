"""The fused loss is the readable one: value, gradients, state, and what it may not cost."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from faces.heads import HEADS, base, fused
from faces.heads.base import CosineHead
from faces.knobs import SEAM

COSINE = [name for name in HEADS if issubclass(HEADS[name], CosineHead) and HEADS[name].loss is CosineHead.loss]
OWN = ("forward", "margins")  # a head with its own is computed step by step
FUSED = [name for name in COSINE if all(getattr(HEADS[name], part) is getattr(CosineHead, part) for part in OWN)]
FUSED.remove("ETF")  # its class vectors do not learn, and want a dimension each


def pair(name, dim, classes, seed, dtype, seam):
    """The same head twice, somewhere in the middle of a training."""
    torch.manual_seed(seed)
    knobs = {"seam": seam} if "seam" in HEADS[name].knobs else {}
    one, other = HEADS[name](dim, classes, **knobs).to(dtype), HEADS[name](dim, classes, **knobs).to(dtype)
    one.weight.data *= torch.rand(*one.weight.shape[:-1], 1, dtype=dtype) * 3 + 0.1
    if name == "CurricularFace":
        one.t.fill_(0.4)
    other.load_state_dict(one.state_dict())
    return one, other


def awkward(features, weight, labels, places):
    """Some features made zero, tiny, parallel or opposite to their class; one weight too short to have a direction."""
    centers = weight.detach().reshape(len(weight), -1, features.shape[1])[:, 0]
    for place, how in enumerate(places[: len(features)]):
        features[place] = {
            "zero": torch.zeros_like(features[place]),
            "tiny": features[place] * 1e-9,
            "on": 2 * centers[labels[place]],
            "opposite": -3 * centers[labels[place]],
        }[how]
    if "tiny" in places:
        weight.data[-1] *= 1e-8
    return features


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(FUSED),
    seam=st.sampled_from(SEAM.options),
    size=st.integers(1, 9),
    dim=st.integers(2, 6),
    classes=st.integers(2, 12),
    at_once=st.integers(1, 60),
    seed=st.integers(0, 2**31),
    places=st.lists(st.sampled_from(["zero", "tiny", "on", "opposite"]), max_size=6),
    training=st.booleans(),
)
def test_fused_is_the_readable_form(name, seam, size, dim, classes, at_once, seed, places, training):
    """To 1e-6 in float64; in float32 too, but beside the centers, where the slope of a sine has no digits left."""
    for dtype, within in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        places = places if dtype == torch.float64 else [place for place in places if place in ("zero", "tiny")]
        readable, quick = (head.train(training) for head in pair(name, dim, classes, seed, dtype, seam))
        labels = torch.randint(classes, (size,))
        features = awkward(3 * torch.randn(size, dim, dtype=dtype), readable.weight, labels, places)
        quick.load_state_dict(readable.state_dict())
        features, same = features.clone().requires_grad_(), features.clone().requires_grad_()
        expected = cross_entropy(readable(features, labels), labels)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fused, "AT_ONCE", at_once)
            found = fused.fused_loss(quick, same, labels)
        wanted = torch.autograd.grad(2 * expected, [features, readable.weight])
        got = torch.autograd.grad(2 * found, [same, quick.weight])
        torch.testing.assert_close(found, expected, rtol=within, atol=within)
        for gradient, reference in zip(got, wanted, strict=True):
            scale = max(1.0, float(reference.abs().max()))
            torch.testing.assert_close(gradient, reference, rtol=0, atol=within * scale)
        for buffer, reference in zip(quick.buffers(), readable.buffers(), strict=True):
            torch.testing.assert_close(buffer, reference, rtol=within, atol=within)


@pytest.mark.parametrize("name", FUSED)
def test_digits_agree_with_float64_at_many_classes(name):
    """To 1e-6 of the largest, with more classes than the readable form is used for."""
    classes, labels = 10_001, torch.tensor([0, 10_000, 77, 77])
    one, other = pair(name, 8, classes, 0, torch.float64, SEAM.options[0])
    features = torch.randn(4, 8)
    wide, narrow = features.double().requires_grad_(), features.clone().requires_grad_()
    other.float()
    expected = cross_entropy(one(wide, labels), labels)
    found = other.loss(narrow, labels)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    wanted = torch.autograd.grad(expected, [wide, one.weight])
    for gradient, reference in zip(torch.autograd.grad(found, [narrow, other.weight]), wanted, strict=True):
        assert (gradient - reference).abs().max() < 1e-6 * max(1.0, float(reference.abs().max()))


@pytest.mark.parametrize("name", FUSED)
def test_many_classes_are_fused_and_few_are_not(name, monkeypatch):
    monkeypatch.setattr(base, "FEW", 5)
    features, labels = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 4])
    assert "Fused" not in HEADS[name](4, 5).loss(features, labels).grad_fn.name()
    assert "Fused" in HEADS[name](4, 6).loss(features, labels).grad_fn.name()


def test_a_head_with_a_forward_of_its_own_is_not_fused(monkeypatch):
    class Odd(HEADS["ArcFace"]):
        def forward(self, features, labels=None):
            return 2 * super().forward(features, labels)

    monkeypatch.setattr(base, "FEW", 1)
    features, labels = torch.randn(3, 4), torch.tensor([0, 1, 2])
    head = Odd(4, 3)
    assert torch.equal(head.loss(features, labels), cross_entropy(head(features, labels), labels))


def test_autocast_does_not_round_the_fused_loss(monkeypatch):
    monkeypatch.setattr(base, "FEW", 1)
    features, labels = torch.randn(6, 64, requires_grad=True), torch.arange(6)
    head = HEADS["CosFace"](64, 9)
    plain = torch.autograd.grad(head.loss(features, labels), [features, head.weight])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = torch.autograd.grad(head.loss(features, labels), [features, head.weight])
    assert all(torch.equal(one, other) for one, other in zip(plain, rounded, strict=True))


def test_backward_can_be_repeated_and_leaves_out_what_nobody_asks_for(monkeypatch):
    monkeypatch.setattr(base, "FEW", 1)
    features, labels = torch.randn(6, 4, requires_grad=True), torch.arange(6)
    head = HEADS["ArcFace"](4, 9)
    loss = head.loss(features, labels)
    first = torch.autograd.grad(loss, head.weight, retain_graph=True)[0].clone()
    assert torch.equal(first, torch.autograd.grad(loss, head.weight)[0])
    head.weight.requires_grad_(False)
    head.loss(features, labels).backward()
    assert head.weight.grad is None
    assert features.grad.abs().max() > 0


def peak(step):
    """The most bytes that torch's allocator held above what it held before, operators' own work space included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


@pytest.mark.parametrize("name", [name for name in FUSED if name != "SubCenterArcFace"])  # its weight is k times larger
def test_it_holds_hardly_more_memory_than_linear_and_cross_entropy(name):
    """At most 1.1 times; the readable form holds more than twice as much."""
    B, D, C = 64, 128, 20_000
    features, labels = torch.randn(B, D, requires_grad=True), torch.randint(C, (B,))
    linear, head = torch.nn.Linear(D, C), HEADS[name](D, C)
    allowed = 1.1 * peak(lambda: cross_entropy(linear(features), labels).backward())
    features.grad = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "AT_ONCE", 2 * C)
        assert peak(lambda: head.loss(features, labels).backward()) <= allowed
    head.weight.grad = features.grad = None
    assert peak(lambda: cross_entropy(head(features, labels), labels).backward()) > 1.5 * allowed


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_the_nearest_center_of_a_class_is_found_and_of_two_equal_ones_the_first(k):
    head = HEADS["SubCenterArcFace"](4, 7, k=k)
    table = torch.randint(0, 3, (20, 7 * k)).float()
    nearest, which = head.winners(table)
    best, at = table.unflatten(1, (7, k)).max(2)
    assert torch.equal(nearest, head.of_classes(table))
    assert torch.equal(nearest, best)
    assert torch.equal(which.long(), at)
