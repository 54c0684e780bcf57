"""Every head computes what public implementations computed, to the last digits they agree on.

The recorded cases and the meaning of their arrays: golden/README.md in the folder `shared`, beside
the repository root. Without that folder these tests are skipped. Every case of a formula that is a
head here is checked, none is left out, and of a case every array but the inputs and
`peer_state_after_eval_call_with_targets`, which records a fault of the peers.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from faces.heads import HEADS
from faces.heads.base import unit

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
OURS = {
    "adacos": "AdaCos",
    "arcface": "ArcFace",
    "arcmarginproduct": "ArcMarginProduct",
    "classification": "Classification",
    "cosface": "CosFace",
    "curricularface": "CurricularFace",
    "normalized_softmax": "NormFace",
    "subcenter_arcface": "SubCenterArcFace",
}
UNITED = {
    "_arc_": "ArcFace",
    "_cos_": "CosFace",
    "_norm_": "NormFace",
}  # settings of combined_margin that are a head here
ELSEWHERE = ("adaface__", "sphereface__", "_cm1_", "_cm2_", "_sphere135_")  # formulas that are no head here

TYPES = {"f64": torch.float64, "f32": torch.float32}
VALUES = {"f64": 1e-9, "f32": 1e-5}  # of s; of 1 where s is less
GRADIENTS = {"f64": 1e-9, "f32": 1e-4}  # of the largest entry
EDGES = ("adversarial", "collinear_wrong", "axis_exact")
ULPS = 4  # how far apart two computations of one cosine may end


def our_head(file):
    """The name of the head that computes a file's formula, or None."""
    formula = file.name.split("__")[0]
    return OURS.get(formula) or next((ours for tag, ours in UNITED.items() if tag in file.name), None)


CASES = [
    (file, kind)
    for file in sorted(GOLDEN.glob("*.npz"))
    if our_head(file)
    for kind in TYPES
    if f"loss_{kind}" in np.load(file).files  # a few large files were recorded in f32 only
]
needs_golden = pytest.mark.skipif(not CASES, reason="the recorded cases (shared/golden) are not beside this repository")


@needs_golden
def test_no_recorded_case_is_left_out():
    checked = {file.name for file, _ in CASES}
    others = {file.name for file in GOLDEN.glob("*.npz")} - checked
    assert not [name for name in others if not any(tag in name for tag in ELSEWHERE)]
    assert {our_head(GOLDEN / name) for name in checked} == {name for name in HEADS if HEADS[name].scored}


@needs_golden
@pytest.mark.parametrize(("file", "kind"), CASES, ids=[f"{file.stem}-{kind}" for file, kind in CASES])
def test_a_recorded_case_is_reproduced(file, kind):
    case = dict(np.load(file))
    meta = json.loads(str(case["meta"]))
    head = build(our_head(file), case, meta, kind)
    steps = 3 if meta["kind"] == "sequence" else 1
    features = torch.tensor(case["features"], dtype=TYPES[kind]).reshape(steps, -1, head.weight.shape[-1])
    labels = torch.tensor(case["targets"]).reshape(steps, -1)
    if steps > 1:
        state(head).fill_(float(case[f"state_before_{kind}"][0, 0]))
    for step in range(steps):
        got, room = outcome_and_room(head, features[step], labels[step], case, meta)
        for name in got.keys() & {array.removesuffix(f"_{kind}") for array in case}:
            want = case[f"{name}_{kind}"] if steps == 1 else case[f"{name}_{kind}"][step]
            if meta["kind"] in EDGES and kind == "f32" and f"{name}_f64" in case:
                room[name] += torch.tensor(np.abs(want - case[f"{name}_f64"])).nan_to_num()  # the peer's own rounding
            check(name, got[name], want, room[name], head, kind)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    logits = head(features[-1])[case["logit_rows"]].detach()
    want = case[f"logits_infer_{kind}"] * (1.0 if meta["infer_scaled"] else scale(head))
    check("logits_infer", logits, want, torch.zeros(()), head, kind)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    if steps > 1:
        check("state_after_infer", state(head)[None], case[f"state_after_infer_{kind}"], torch.zeros(()), head, kind)


def build(name, case, meta, kind):
    """The head with a file's knobs and weights, in its type."""
    weight = torch.tensor(case["weight"], dtype=TYPES[kind])
    margin = case["m"] if "m" in case else case["m3"] if name == "CosFace" else case.get("m2", 0.0)
    recorded = {
        "s": float(case.get("s", 1.0)),
        "m": float(np.float32(margin) if meta["peer"] == "adaface" else margin),  # that peer keeps m in float32
        "k": weight.shape[1],
        "seam": meta["wrap_rule"],
    }
    knobs = {knob: recorded[knob] for knob in HEADS[name].knobs if knob in recorded}
    head = HEADS[name](weight.shape[-1], len(weight), **knobs).to(TYPES[kind])
    head.load_state_dict({"weight": weight}, strict=False)
    if meta["grad_rule"].startswith("straight_through"):  # the value of the margin, the gradient of none
        margin = head.margin
        head.margin = lambda own: own + (margin(own) - own).detach()
    return head


def state(head):
    """The buffer of a head that has one."""
    return next(head.buffers())


def scale(head):
    return float(getattr(head, "s", 1.0))


def outcome_and_room(head, features, labels, case, meta):
    """What the head gives for a batch, and how far a correct peer may be from it, entry by entry.

    For `random` features that is nothing. The other kinds put features on the very direction of a
    class, where the last digits of a cosine show, multiplied by 1 / sin(theta), and where some peers
    hold cosines at clamp_eps from 1. So there the head is run again with each of these differences:
    what that changes is allowed.
    """
    known = {name: value.clone() for name, value in head.state_dict().items()}
    got = outcome(head, features, labels, case, meta)
    room = {name: torch.zeros_like(value) for name, value in got.items()}
    for methods in differences(head, features.dtype, meta) if meta["kind"] in EDGES else ():
        kept = {name: vars(head).get(name) for name in methods}
        head.load_state_dict(known)
        vars(head).update(methods)
        for name, value in outcome(head, features, labels, case, meta).items():
            room[name] = torch.maximum(room[name], (value - got[name]).abs())
        for name, method in kept.items():
            vars(head).update({name: method}) if method else delattr(head, name)
    room["loss"] = room["loss_per_sample"].mean()
    return got, room


def differences(head, dtype, meta):
    """The methods of the head that differ, one difference at a time."""
    cosine, margin = head.cosine, head.margin
    few = ULPS * torch.finfo(dtype).eps
    yield {"cosine": lambda features: cosine(features) + few}
    yield {"cosine": lambda features: cosine(features) - few}
    if cap := meta["clamp_eps"]:
        for hold in (
            lambda cosine: cosine.clamp(cap - 1, 1 - cap),  # held, and no gradient beyond
            lambda cosine: cosine + (cosine.clamp(cap - 1, 1 - cap) - cosine).detach(),  # with gradient
        ):
            yield {"cosine": lambda features, hold=hold: hold(cosine(features))}
            # some hold the own cosines only, and theta + m at clamp_eps from pi
            yield {"margin": lambda own, hold=hold: margin(hold(own)).clamp_min(-math.cos(cap))}


def outcome(head, features, labels, case, meta):
    """Training logits, losses, gradients and state after one batch, under the names of the recorded arrays."""
    features = features.clone().requires_grad_()
    head.weight.grad = None
    logits = head(features, labels)
    logits.retain_grad()
    losses = cross_entropy(logits, labels, reduction="none")
    losses.mean().backward()
    weight_grad = head.weight.grad
    if meta["grad_rule"].endswith("weight_stored_normalised"):  # d loss / d the unit vectors, not projected
        weight_grad = scale(head) * logits.grad.T @ unit(features.detach())
    got = {
        "logits_train": logits[case["logit_rows"]],
        "target_logit_train": logits.gather(1, labels[:, None]).squeeze(1),
        "loss": losses.mean(),
        "loss_per_sample": losses,
        "grad_features": features.grad,
        "grad_weight": weight_grad[case["grad_weight_classes"]],
        "grad_weight_norm": weight_grad.norm(),
    }
    if meta["kind"] == "sequence":
        got["state_after"] = state(head).clone()[None]
    return {name: value.detach() for name, value in got.items()}


def check(name, got, want, room, head, kind):
    """Equal within the type's tolerance and the room."""
    finite = np.isfinite(want)  # at theta = 0 and pi some peers give NaN gradients; a head here never does
    assert torch.isfinite(got).all()
    if name.startswith("grad"):
        allowed = GRADIENTS[kind] * np.abs(want, where=finite, out=np.zeros_like(want)).max()
    else:
        assert finite.all()
        allowed = VALUES[kind] * max(1.0, scale(head))
    excess = np.where(finite, np.abs(got.numpy() - want) - room.numpy() - allowed, 0.0)
    assert excess.max() <= 0, f"{name} is off by {excess.max():.1e} more than allowed"
