"""Metric-learning heads: each the loss it is named after, on unit rows, whatever the precision and the batch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses
from pytorch_metric_learning.miners import BatchHardMiner

from faces.heads import HEADS
from faces.knobs import Choice

METRIC = [name for name in HEADS if not HEADS[name].scored]
PAIRED = [name for name in METRIC if HEADS[name].balanced]
LIVE = [(name, knob) for name in METRIC for knob, what in HEADS[name].knobs.items() if what.live]

few = settings(max_examples=25, deadline=None, derandomize=True)


def batch(size=24, dim=6, classes=5, seed=0, dtype=torch.float32):
    """Features of any length and direction and their labels."""
    features = 3 * torch.randn(size, dim, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return features.requires_grad_(), torch.arange(size) % classes


def built(name, dim=6, classes=5, **knobs):
    torch.manual_seed(1)
    return HEADS[name](dim, classes, **knobs)


# By hand: two images of a class at 0 and 40 degrees, one each of two others at 60 and 110.


def four():
    angle = torch.deg2rad(torch.tensor([0.0, 40.0, 60.0, 110.0], dtype=torch.float64))
    return 2 * torch.stack([angle.cos(), angle.sin()], dim=1), torch.tensor([0, 0, 1, 2])


def chord(degrees):
    """The distance of two unit vectors at this angle."""
    return 2 * math.sin(math.radians(degrees) / 2)


def test_triplets_by_hand():
    hardest = [chord(40) - chord(60) + 0.5, chord(40) - chord(20) + 0.5]  # of the image at 0, of the one at 40
    assert built("Triplet", 2, m=0.5).loss(*four()).item() == pytest.approx(sum(hardest) / 2)
    every = [*hardest, chord(40) - chord(70) + 0.5]  # 0 against 110 asks for nothing and does not count
    assert built("Triplet", 2, m=0.5, mining="all").loss(*four()).item() == pytest.approx(sum(every) / 3)


def test_quadruplets_by_hand():
    near = [chord(40) ** 2 - chord(60) ** 2 + 0.6, chord(40) ** 2 - chord(20) ** 2 + 0.6]
    elsewhere = chord(40) ** 2 - chord(50) ** 2 + 0.5  # against 60 and 110
    assert min(*near, elsewhere) > 0
    loss = built("Quadruplet", 2, m1=0.6, m2=0.5).loss(*four()).item()
    assert loss == pytest.approx(sum(near) / 2 + elsewhere)
    loss = built("Quadruplet", 2, m1=0.6, m2=0.2).loss(*four()).item()
    assert loss == pytest.approx(sum(near) / 2)


@few
@given(seed=st.integers(0, 2**31), classes=st.integers(1, 6), size=st.integers(1, 20))
def test_quadruplets_equal_a_walk_over_all_of_them(seed, classes, size):
    features, _ = batch(size=size, seed=seed, dtype=torch.float64)
    labels = torch.randint(classes, (size,), generator=torch.Generator().manual_seed(seed))
    head = built("Quadruplet", classes=6)
    rows = torch.nn.functional.normalize(features)
    square = (rows[:, None] - rows).square().sum(2)
    pairs = [(i, j) for i in range(size) for j in range(size) if i != j]
    own = [(a, p) for a, p in pairs if labels[a] == labels[p]]
    near = [square[a, p] - square[a, n] + head.m1 for a, p in own for n in range(size) if labels[n] != labels[a]]
    elsewhere = [
        square[a, p] - square[n, o] + head.m2
        for a, p in own
        for n, o in pairs
        if len({int(labels[a]), int(labels[n]), int(labels[o])}) == 3
    ]
    expected = features.sum() * 0
    for term in (near, elsewhere):
        if asking := [value for value in term if value > 0]:
            expected = expected + torch.stack(asking).mean()
    loss = head.loss(features, labels)
    torch.testing.assert_close(loss, expected)
    gradients = (torch.autograd.grad(value, features)[0] for value in (loss, expected))
    torch.testing.assert_close(*gradients)


# The library, called as its manual says.


def by_the_library(head, features, labels):
    """The loss of pytorch-metric-learning with its own distances and normalisation; class vectors from the head."""
    name, (classes, dim) = type(head).__name__, (head.classes, features.shape[1])
    if name == "Triplet":
        mined = BatchHardMiner()(features, labels) if head.mining == "batch-hard" else None
        return losses.TripletMarginLoss(margin=head.m)(features, labels, mined)
    if name == "SupCon":
        return losses.SupConLoss(temperature=head.tau)(features, labels)
    if name == "Circle":
        return losses.CircleLoss(m=head.m, gamma=head.gamma)(features, labels)
    if name == "ProxyAnchor":
        loss = losses.ProxyAnchorLoss(classes, dim, margin=head.delta, alpha=head.alpha)
        loss.proxies.data = head.weight.detach().clone()
    else:
        loss = losses.SoftTripleLoss(classes, dim, head.k, la=head.lam, gamma=head.gamma, margin=head.delta)
        loss.fc.data = head.weight.detach().flatten(0, 1).T.clone()  # column c*K + k
    return loss(features, labels)


@pytest.mark.parametrize("name", [name for name in METRIC if name != "Quadruplet"])
@pytest.mark.parametrize("seed", range(3))
def test_a_loss_is_that_of_the_library(name, seed):
    features, labels = batch(seed=seed)
    other = {"m": 0.6} if "m" in HEADS[name].knobs else {"delta": 0.3} if "delta" in HEADS[name].knobs else {}
    choices = [{}, other] + ([{"mining": "all"}] if name == "Triplet" else [{"k": 1}] if name == "SoftTriple" else [])
    for knobs in choices:
        head = built(name, **knobs)
        ours, theirs = head.loss(features, labels), by_the_library(head, features, labels)
        torch.testing.assert_close(ours, theirs)
        gradients = (torch.autograd.grad(loss, features)[0] for loss in (ours, theirs))
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


# What they have in common.


@pytest.mark.parametrize("name", METRIC)
def test_there_are_no_class_logits_and_a_sentence_says_so(name):
    features, labels = batch()
    for given_labels in (None, labels):
        with pytest.raises(
            ValueError, match=rf"^{name} has no class logits\. Score its .* by KNN or by class means\.$"
        ):
            built(name)(features, given_labels)


@pytest.mark.parametrize("name", METRIC)
def test_a_head_that_compares_images_has_no_parameters_and_one_with_proxies_learns_them(name):
    head = built(name)
    parameters = dict(head.named_parameters())
    assert set(parameters) == set(head.state_dict()) == (set() if head.balanced else {"weight"})
    head.loss(*batch()).backward()
    for weight in parameters.values():
        assert weight.norm(dim=-1).sub(1).abs().max() < 1e-6
        assert weight.grad.abs().max() > 0


@pytest.mark.parametrize(("name", "knob"), LIVE)
def test_a_knob_turned_live_reaches_the_loss(name, knob):
    features, labels = batch(size=60)
    what = HEADS[name].knobs[knob]
    value = what.options[1] if isinstance(what, Choice) else 0.75 * what.high
    turned, fresh, untouched = built(name), built(name, **{knob: value}), built(name)
    turned.turn(**{knob: value})
    assert torch.equal(turned.loss(features, labels), fresh.loss(features, labels))
    assert not torch.equal(turned.loss(features, labels), untouched.loss(features, labels))


@few
@given(seed=st.integers(0, 2**31), length=st.floats(1e-3, 1e3), name=st.sampled_from(METRIC))
def test_only_directions_count(seed, length, name):
    features, labels = batch(seed=seed, dtype=torch.float64)
    head = built(name).double()
    torch.testing.assert_close(head.loss(features * length, labels), head.loss(features, labels))


@pytest.mark.parametrize("name", METRIC)
def test_a_loss_leaves_the_random_numbers_of_its_caller_alone(name):
    before = torch.get_rng_state()
    head = HEADS[name](6, 5)
    after = torch.get_rng_state()
    head.loss(*batch())
    assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(before, after) == (not list(head.parameters()))


@pytest.mark.parametrize("name", METRIC)
def test_autocast_does_not_round_and_half_precision_keeps_its_class_vectors(name):
    features, labels = batch(dim=64)
    head = built(name, dim=64)
    exact = head.loss(features, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head.loss(features, labels), exact)
        of_half = head.loss(features.bfloat16(), labels)
    assert of_half.dtype == torch.float32
    assert {weight.dtype for weight in head.parameters()} <= {torch.float32}
    torch.testing.assert_close(of_half, head.loss(features.bfloat16().float(), labels))
    assert head.bfloat16().loss(features, labels).dtype == torch.float32
    assert {weight.dtype for weight in head.parameters()} <= {torch.bfloat16}
    for wide in (head.double(), head.float()):
        loss = wide.loss(features.double(), labels)
        assert loss.dtype == torch.float64
        assert all(
            torch.isfinite(gradient).all() for gradient in torch.autograd.grad(loss, [*wide.parameters(), features])
        )


@pytest.mark.parametrize("name", METRIC)
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 0], [0, 0, 0, 1, 1, 1]])
def test_nothing_is_nan_for_equal_opposite_or_zero_features_and_any_mix_of_classes(name, labels):
    head = built(name)
    row = torch.nn.functional.normalize(torch.arange(1.0, 7.0), dim=0)
    features = torch.stack([size * row for size in (1, 1, -1, 0, 1e-30, 1e30)]).requires_grad_()
    loss = head.loss(features, torch.tensor(labels))
    assert torch.isfinite(loss)
    for gradient in torch.autograd.grad(loss, [features, *head.parameters()]):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() < 1e4


@pytest.mark.parametrize("name", METRIC)
def test_two_classes_part(name):
    features, labels = batch(size=12, dim=8, classes=2)
    one = {"k": 1} if "k" in HEADS[name].knobs else {}  # with more, a class may stay in several places
    head, features = built(name, 8, 2, **one), (features.detach() / 10).requires_grad_()
    optimizer = torch.optim.SGD([features, *head.parameters()], lr=0.1)
    for _ in range(200):
        loss = head.loss(features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosine = torch.nn.functional.cosine_similarity(features[:, None], features, dim=2)
    same = labels[:, None] == labels
    assert cosine[same].min() > cosine[~same].max()


def test_more_triplets_than_memory_can_hold_are_refused_in_a_sentence():
    labels = torch.arange(800) % 2
    with pytest.raises(ValueError, match=r"A batch of 800 has 127,680,000 triplets.*batch-hard"):
        built("Triplet", mining="all").loss(torch.randn(800, 6), labels)
    assert torch.isfinite(built("Triplet").loss(torch.randn(800, 6), labels))
    with pytest.raises(ValueError, match="too many quadruplets"):
        built("Quadruplet", classes=200).loss(torch.randn(800, 6), torch.arange(800) % 200)
