"""Class centers spread over processes: the same loss, gradients, state and training as in one process."""

import os
import re
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from faces.heads import HEADS
from faces.partial_fc import PartialFC, SampledSGD, costs, served
from tests.helpers import ROOT
from tests.test_fused import peak

WORLD, B, D, C = (
    2,
    4,
    5,
    11,
)  # processes, images of each, numbers of a feature, classes: 5 in one process, 6 in the other
KNOBS = {"SubCenterArcFace": {"k": 2}, "ElasticFace": {"sigma": 0.2}}
FEWER = ((60, 0.1), (2, 0.01))  # with two classes one process keeps none of its one class
SPREAD = ["NormFace", "ArcFace", "CosFace", "SubCenterArcFace", "CurricularFace", "MVSoftmax", "ElasticFace", "AdaFace"]


def batch(classes=C, size=WORLD * B):
    """Features and labels of all processes, in the order of the processes."""
    draw = torch.Generator().manual_seed(3)
    features = 3 * torch.randn(size, D, dtype=torch.float64, generator=draw)
    return features, torch.randint(classes if classes > 2 else 1, (size,), generator=draw)


def partial(name, classes=C, rate=1.0):
    """A head in the middle of a training."""
    head = PartialFC(name, D, classes, rate, seed=7, **KNOBS.get(name, {})).double()
    if name == "CurricularFace":
        head.head.t.fill_(0.4)
    return head


def losses(head, features, labels):
    """Loss and gradients at a batch: of features, and of the centers as a whole table."""
    features = features.clone().requires_grad_()
    loss = head(features, labels)
    of_features, of_weight = torch.autograd.grad(3 * loss, [features, head.weight])  # of a loss that is scaled
    told = {"loss": loss.detach(), "features": of_features, "weight": of_weight.to_dense()}
    return told | {f"buffer {name}": buffer for name, buffer in head.named_buffers()}


def trained(rank, world, rate):
    """An encoder and a head after four steps of a training in float64, with the mean of gradients that DDP takes."""
    torch.manual_seed(0)
    encoder, head = torch.nn.Linear(6, D).double(), partial("CosFace", 40, rate)
    if dist.is_initialized():
        encoder = torch.nn.parallel.DistributedDataParallel(encoder)
    optimizers = torch.optim.SGD(encoder.parameters(), 0.1, 0.9), SampledSGD(head.parameters(), 0.1, 0.9)
    for step in range(4):
        draw = torch.Generator().manual_seed(step)
        images = torch.randn(world, B, 6, dtype=torch.float64, generator=draw)
        labels = torch.randint(40, (world, B), generator=draw)
        features = encoder(images[rank] if dist.is_initialized() else images.flatten(0, 1))
        if dist.is_initialized():
            features.register_hook(lambda slope: world * slope)
        loss = head(features, labels[rank] if dist.is_initialized() else labels.flatten())
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return {"encoder": next(encoder.parameters()).detach(), "weight": head.weight.detach(), "loss": loss.detach()}


def process(rank: int, folder: str) -> None:
    """One of the processes: everything that is compared, in one start of torch."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    found = {}
    mine = slice(rank * B, rank * B + B)
    for name in SPREAD:
        for classes, rate in ((C, 1.0), *FEWER):
            features, labels = batch(classes)
            told = losses(partial(name, classes, rate), features[mine], labels[mine])
            found |= {f"{name} {classes} {rate} {what}": value for what, value in told.items()}
    for rate in (1.0, 0.3):
        found |= {f"trained {rate} {what}": value for what, value in trained(rank, WORLD, rate).items()}
    head, (features, labels) = partial("ArcFace"), batch()
    wrong = {
        "sizes": (features[: 2 + rank], labels[: 2 + rank]), "labels": (features[mine], labels[mine] + 11 * rank),
        "dim": (features[mine, : D - rank], labels[mine]), "none": (features[:0], labels[:0]),
    }  # fmt: skip
    for what, given_ in wrong.items():
        with pytest.raises(ValueError, match=r"\.$") as refused:
            head(*given_)
        found[f"refused {what}"] = torch.tensor(list(str(refused.value).encode()))
    with pytest.raises(ValueError, match="1 classes cannot be spread over 2 processes"):
        PartialFC("ArcFace", D, 1)
    save_file({name: value.contiguous() for name, value in found.items()}, f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two real processes found, each of them."""
    folder = tmp_path_factory.mktemp("processes")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.test_partial_fc"]
    started = [subprocess.Popen([*command, str(rank), str(folder)], cwd=ROOT, env=environment) for rank in range(WORLD)]
    try:
        assert [one.wait(120) for one in started] == [0] * WORLD
    finally:
        for one in started:
            one.kill()
            one.wait()
    return [load_file(folder / f"{rank}.safetensors") for rank in range(WORLD)]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def readable(name, classes, kept=None):
    """The plain head with the centers of a spread one, or only some of them."""
    whole = partial(name, classes)
    head = HEADS[name](D, len(kept) if kept is not None else classes, **whole.head.knob_values()).double()
    head.load_state_dict(whole.head.state_dict() | {"weight": whole.weight if kept is None else whole.weight[kept]})
    return head


@pytest.mark.parametrize("name", SPREAD)
def test_loss_gradients_and_state_are_those_of_the_plain_head_in_one_process(name, found):
    features, labels = batch()
    features.requires_grad_()
    head = readable(name, C)
    expected = cross_entropy(head(features, labels), labels)
    of_features, of_weight = torch.autograd.grad(3 * expected, [features, head.weight])
    told = [{key.removeprefix(f"{name} {C} 1.0 "): value for key, value in one.items()} for one in found]
    assert [len(one["weight"]) for one in told] == [5, 6]
    for one in told:
        close(one["loss"], expected.detach())
        for buffer, value in head.named_buffers():
            close(one[f"buffer head.{buffer}"], value)
    close(torch.cat([one["features"] for one in told]), of_features)
    close(torch.cat([one["weight"] for one in told]), of_weight)


@pytest.mark.parametrize(("classes", "rate"), FEWER)
@pytest.mark.parametrize("name", SPREAD)
def test_with_classes_left_out_it_is_the_full_softmax_over_those_that_stay(name, classes, rate, found):
    features, labels = batch(classes)
    kept = partial(name, classes, rate).kept(labels)
    assert set(labels.tolist()) <= set(kept.tolist())
    assert len(kept) < classes
    features.requires_grad_()
    told = [{key.removeprefix(f"{name} {classes} {rate} "): value for key, value in one.items()} for one in found]
    if len(kept) > 1:
        head = readable(name, classes, kept)
        expected = cross_entropy(head(features, at := torch.searchsorted(kept, labels)), at)
        of_features, of_kept = torch.autograd.grad(3 * expected, [features, head.weight])
        of_weight = torch.zeros_like(partial(name, classes).weight).index_copy(0, kept, of_kept)
        for one in told:
            close(one["loss"], expected.detach())
        close(torch.cat([one["features"] for one in told]), of_features)
        close(torch.cat([one["weight"] for one in told]), of_weight)
    alone = losses(partial(name, classes, rate), features.detach(), labels)  # one process, no group
    close(torch.cat([one["weight"] for one in told]), alone["weight"])


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_a_training_on_two_processes_is_the_one_on_one(rate, found):
    alone = trained(0, WORLD, rate)
    told = [{key.removeprefix(f"trained {rate} "): value for key, value in one.items()} for one in found]
    for one in told:
        close(one["encoder"], alone["encoder"])
        close(one["loss"], alone["loss"])
    close(torch.cat([one["weight"] for one in told]), alone["weight"])


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("sizes", "gave [2, 3] images"),
        ("labels", "classes go from 0 to 10"),
        ("dim", "have [4, 5]"),
        ("none", "[0, 0]"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_every_process(what, sentence, found):
    told = {bytes(one[f"refused {what}"].tolist()).decode() for one in found}
    assert len(told) == 1
    assert sentence in told.pop()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    rate=st.sampled_from([0.05, 0.3, 0.9]), classes=st.integers(2, 5000), seed=st.integers(0, 2**40),
    step=st.integers(0, 10**6), labels=st.lists(st.integers(0, 10**6), min_size=1, max_size=9),
)  # fmt: skip
def test_a_draw_keeps_the_batch_s_classes_and_as_many_others_as_it_should(rate, classes, seed, step, labels):
    head, labels = PartialFC("NormFace", 2, classes, rate, seed), torch.tensor(labels) % classes
    head.step.fill_(step)
    kept = head.kept(labels)
    assert torch.equal(kept, head.kept(labels))
    assert set(labels.tolist()) <= set(kept.tolist())
    assert (kept.diff() > 0).all()
    drawn, spread = len(kept), (classes * rate * (1 - rate)) ** 0.5
    assert abs(drawn - classes * rate) <= len(labels) + 6 * spread + 1
    head.step += 1
    assert classes < 100 or not torch.equal(kept, head.kept(labels))
    assert head.eval().kept(labels) is None


def test_each_class_comes_as_often_as_the_next():
    head, labels = PartialFC("NormFace", 2, 1000, 0.25), torch.tensor([3])
    count = torch.zeros(1000)
    for step in range(400):
        head.step.fill_(step)
        count[head.kept(labels)] += 1
    count = count[torch.arange(1000) != 3]
    assert abs(float(count.mean()) - 100) < 1
    assert 0.85 < float(count.var()) / (400 * 0.25 * 0.75) < 1.15  # of a binomial count


def test_a_rate_of_one_in_torch_s_own_sgd_and_in_this_one():
    both = [PartialFC("ArcFace", D, 9, seed=1) for _ in range(2)]
    optimizers = torch.optim.SGD(both[0].parameters(), 0.2, 0.9), SampledSGD(both[1].parameters(), 0.2, 0.9)
    for step in range(3):
        features, labels = torch.randn(6, D, generator=torch.Generator().manual_seed(step)), torch.arange(6)
        for head, optimizer in zip(both, optimizers, strict=True):
            optimizer.zero_grad()
            head(features, labels).backward()
            optimizer.step()
    torch.testing.assert_close(both[0].weight, both[1].weight)


def test_rows_left_out_stay_where_they_are_with_their_momentum():
    head = PartialFC("ArcFace", D, 100, 0.2, seed=1)
    optimizer = SampledSGD(head.parameters(), 0.2, 0.9)
    for _ in range(3):
        kept, before = head.kept(labels := torch.arange(4)), head.weight.detach().clone()
        speed = optimizer.state[head.weight].get("momentum", torch.zeros_like(before)).clone()
        optimizer.zero_grad()
        head(torch.randn(4, D), labels).backward()
        assert head.weight.grad.is_sparse
        assert head.weight.grad._nnz() == len(kept)
        wanted = 0.9 * speed + head.weight.grad.to_dense()
        optimizer.step()
        still = torch.ones(100, dtype=torch.bool).index_fill(0, kept, False)
        assert torch.equal(head.weight[still], before[still])
        assert torch.equal(optimizer.state[head.weight]["momentum"][still], speed[still])
        torch.testing.assert_close(optimizer.state[head.weight]["momentum"][kept], wanted[kept])
        torch.testing.assert_close(head.weight[kept], before[kept] - 0.2 * wanted[kept])


def test_a_resumed_training_draws_what_an_uninterrupted_one_would():
    head, labels = PartialFC("ElasticFace", D, 300, 0.2), torch.arange(4)
    head(torch.randn(4, D), labels)
    other = PartialFC("ElasticFace", D, 300, 0.2)
    other.load_state_dict(head.state_dict())
    assert torch.equal(head.kept(labels), other.kept(labels))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.eval()(torch.randn(4, D), labels)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


def test_centers_start_alike_whatever_was_drawn_before_and_every_block_anew():
    torch.manual_seed(5)
    one, after = PartialFC("CosFace", 3, 9000, seed=2), torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    assert torch.equal(one.weight, PartialFC("CosFace", 3, 9000, seed=2).weight)
    assert one.weight.unique(dim=0).shape == one.weight.shape
    assert not torch.equal(one.weight, PartialFC("CosFace", 3, 9000, seed=3).weight)
    assert one.head.s == HEADS["CosFace"](3, 9000).s  # a default that follows from the number of classes


def test_what_cannot_be_spread_is_refused_in_one_sentence():
    assert set(SPREAD) <= set(served())
    for name in ["Odd", *sorted(set(HEADS) - set(served()))]:
        with pytest.raises(ValueError, match=f"'{name}' cannot be spread over processes. Heads that can: "):
            PartialFC(name, 20, 9)
    for rate in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="rate: share of the wrong classes in a step, 0 to 1"):
            PartialFC("ArcFace", 4, 9, rate)
    with pytest.raises(ValueError, match=r"Unknown knob \['q'\]"):
        PartialFC("ArcFace", 4, 9, q=1)


@pytest.mark.parametrize(("images", "dim", "rate"), [(16, 128, 1.0), (256, 64, 1.0), (16, 128, 0.1), (256, 64, 0.1)])
def test_a_step_takes_the_memory_that_the_arithmetic_says(images, dim, rate):
    head, features = PartialFC("CosFace", dim, 20_000, rate), torch.randn(images, dim, requires_grad=True)
    said = costs(20_000, dim, images, 1, len(head.kept(torch.arange(images))) / 20_000 if rate < 1 else 1.0)
    assert 0.9 < peak(lambda: head(features, torch.arange(images)).backward()) / said["step"] < 1.1
    assert head.weight.nbytes == said["centers"]


def test_the_table_of_costs_is_what_the_arithmetic_says():
    page = (ROOT / "assets" / "guide" / "cluster.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| \d.*\|$", page, re.M)]
    assert len(rows) == 6
    for classes, processes, rate, *numbers in rows:
        cost = costs(int(classes.replace(",", "")), processes=int(processes), rate=float(rate))
        found = [cost["centers"] / 1e9, cost["momentum"] / 1e9, cost["step"] / 1e9, cost["sent"] / 1e6]
        assert [f"{value:.2f}" for value in found[:3]] + [f"{found[3]:.0f}"] == numbers
    for classes, said in ((10**6, "3.6 GB for a million"), (10**7, "35.8 GB for ten million")):
        assert f"{costs(classes)['sent by copies'] / 1e9:.1f} GB for" in said
        assert said in page


if __name__ == "__main__":
    process(int(sys.argv[1]), sys.argv[2])
