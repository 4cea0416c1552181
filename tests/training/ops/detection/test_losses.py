"""VoteNet's losses against a plain loop in float64, closed forms, and finite differences."""

import math

import pytest
import torch

from pointcmt.training.ops.detection.bins import to_bins
from pointcmt.training.ops.detection.losses import loss_terms, total_loss
from pointcmt.training.ops.detection.targets import boxes_of_points, make_targets
from tests.training.ops.detection.scenes import (
    CLASSES,
    HEADINGS,
    perfect_proposals,
    points_in,
    random_boxes,
    random_proposals,
)

SCENES, BOXES, EACH, COUNT = 2, 5, 8, 30
TERMS = ("vote", "objectness", "center", "heading_class", "heading_residual", "size_class")
TERMS += ("size_residual", "class")
WEIGHTS = dict(zip(TERMS, (2.0, 0.3, 0.7, 1.1, 0.9, 0.4, 1.3, 0.6), strict=True))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(seed=0, padding=2):
    """Points, boxes of which the last are padding, their labels, and mean sizes."""
    boxes = random_boxes(generator(seed), SCENES, BOXES)
    labels = torch.randint(CLASSES, (SCENES, BOXES), generator=generator(seed + 1))
    points = points_in(boxes, EACH, generator(seed + 2))
    labels[:, BOXES - padding :] = -1
    sizes = torch.rand(CLASSES, 3, generator=generator(seed + 3), dtype=torch.float64) + 0.5
    owners = boxes_of_points(points, boxes, labels)
    return points, make_targets(owners, boxes, labels, boxes[..., :3]), owners, sizes


def near(found, targets):
    """Move some clusters close to boxes, so that there are proposals of all three kinds."""
    clusters = found.clusters.clone()
    offset = torch.tensor([0.1, 0.25, 0.45, 0.7])
    for scene in range(SCENES):
        for place, away in enumerate(offset):
            clusters[scene, place * 3 : place * 3 + 3] = targets.boxes[scene, :3, :3]
            clusters[scene, place * 3 : place * 3 + 3, 2] += away
    return found._replace(clusters=clusters)


def huber(x):
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


def cross_entropy(logits, label):
    return float(torch.logsumexp(logits, 0) - logits[label])


def plain_terms(found, targets, sizes):
    """Each term as sums over scenes and proposals, one after the other."""
    sums = {}

    def add(name, value, weight=1.0):
        total, count = sums.get(name, (0.0, 0))
        sums[name] = total + weight * float(value), count + 1

    for b in range(SCENES):
        real = [k for k in range(BOXES) if targets.labels[b, k] >= 0]
        for s, seed in enumerate(found.seed[b]):
            if targets.owned[b, seed]:
                away = [(found.votes[b, s] - c).abs().sum() for c in targets.centers[b, seed]]
                add("vote", min(away))
        positives = []
        for p in range(COUNT):
            away = [math.dist(found.clusters[b, p], targets.boxes[b, k, :3]) for k in real]
            box = real[min(range(len(real)), key=away.__getitem__)]
            positive = min(away) < 0.3
            if positive or min(away) > 0.6:
                weight = 0.8 if positive else 0.2
                add("objectness", cross_entropy(found.objectness[b, p], int(positive)), weight)
            if positive:
                positives.append((p, box))
        for p, box in positives:
            away = [math.dist(found.centers[b, p], targets.boxes[b, k, :3]) ** 2 for k in real]
            add("to_box", min(away))
            label, target = int(targets.labels[b, box]), targets.boxes[b, box]
            bins, turn = to_bins(target[6], HEADINGS)
            add("heading_class", cross_entropy(found.heading[b, p], bins))
            add("heading_residual", huber(float(found.turn[b, p, bins] - turn)))
            add("size_class", cross_entropy(found.size[b, p], label))
            errors = found.growth[b, p, label] - (target[3:6] - sizes[label]) / sizes[label]
            add("size_residual", sum(map(huber, errors.tolist())) / 3)
            add("class", cross_entropy(found.logits[b, p], label))
        for k in real:
            away = [math.dist(center, targets.boxes[b, k, :3]) ** 2 for center in found.centers[b]]
            add("to_proposal", min(away))
    means = {name: total / (count + 1e-6) for name, (total, count) in sums.items()}
    means["center"] = means.pop("to_box") + means.pop("to_proposal")
    return means


@pytest.mark.parametrize("seed", [0, 10])
def test_terms_agree_with_a_plain_loop(seed):
    points, targets, _, sizes = make(seed)
    found = random_proposals(generator(seed + 5), SCENES, 20, COUNT, points.shape[1])
    found = near(found, targets)
    terms, expected = loss_terms(found, targets, sizes), plain_terms(found, targets, sizes)
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, rel=1e-9)
    total = 10 * sum(weight * expected[name] for name, weight in WEIGHTS.items())
    assert float(total_loss(terms, WEIGHTS)) == pytest.approx(total, rel=1e-9)


def test_perfect_proposals_have_no_loss():
    points, targets, owners, sizes = make(padding=0)
    found = perfect_proposals(points, owners[..., 0], targets.boxes, targets.labels, sizes)
    terms = loss_terms(found, targets, sizes)
    assert all(float(term) < 1e-12 for term in terms.values()), terms


def test_a_shift_of_votes_costs_its_l1_length_and_of_centers_twice_its_square():
    points, targets, owners, sizes = make(padding=0)
    found = perfect_proposals(points, owners[..., 0], targets.boxes, targets.labels, sizes)
    shift = torch.tensor([0.01, -0.02, 0.005], dtype=torch.float64)
    moved = found._replace(votes=found.votes + shift, centers=found.centers + shift)
    terms = loss_terms(moved, targets, sizes)
    assert float(terms["vote"]) == pytest.approx(0.035, rel=1e-6)
    assert float(terms["center"]) == pytest.approx(2 * float(shift.square().sum()), rel=1e-6)


def test_without_knowledge_the_terms_are_entropies():
    """Logits of 0: log 2 with weight 0.8 for positives, log of the number of bins and classes."""
    points, targets, owners, sizes = make(padding=0)
    found = perfect_proposals(points, owners[..., 0], targets.boxes, targets.labels, sizes, sure=0)
    terms = {name: float(term) for name, term in loss_terms(found, targets, sizes).items()}
    assert terms["objectness"] == pytest.approx(0.8 * math.log(2), rel=1e-6)
    assert terms["heading_class"] == pytest.approx(math.log(HEADINGS), rel=1e-6)
    assert terms["size_class"] == terms["class"] == pytest.approx(math.log(CLASSES), rel=1e-6)


def test_a_scene_without_boxes_costs_only_objectness():
    points, targets, _, sizes = make(padding=BOXES)
    found = random_proposals(generator(), SCENES, 20, COUNT, points.shape[1])
    found.centers.requires_grad_()
    terms = loss_terms(found, targets, sizes)
    assert terms.pop("objectness").item() > 0
    assert all(term.item() == 0 for term in terms.values())
    terms["center"].backward()
    assert found.centers.grad.abs().max() == 0


def test_gradients_agree_with_finite_differences():
    points, targets, _, sizes = make()
    found = near(random_proposals(generator(9), SCENES, 6, COUNT, points.shape[1]), targets)
    names = [name for name in found._fields if name not in ("seed", "clusters")]

    def loss(*values):
        given = found._replace(**dict(zip(names, values, strict=True)))
        return total_loss(loss_terms(given, targets, sizes), WEIGHTS)

    inputs = [getattr(found, name).clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)
