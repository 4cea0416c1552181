"""3DETR's matching against all permutations, its losses against a plain version in float64."""

import itertools
import math

import numpy as np
import pytest
import torch

from pointcmt.training.ops.detection.boxes import box_iou, generalized_iou
from pointcmt.training.ops.detection.queries import Queries, decode_queries, detect_queries
from pointcmt.training.ops.detection.set_losses import Costs, match, set_loss_terms
from tests.training.ops.detection.scenes import CLASSES, HEADINGS, random_boxes

LAYERS, SCENES, QUERIES = 2, 3, 6
COSTS = Costs(label=1.0, giou=2.0, center=5.0, objectness=3.0)
COUNTS = (4, 0, 3)  # boxes of each scene
NO_OBJECT = 0.25


def random_queries(seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    each = LAYERS, SCENES, QUERIES
    return Queries(
        draw(SCENES, 3) - 3,
        draw(SCENES, 3).abs() + 4,
        draw(*each, CLASSES + 1),
        draw(*each, 3),
        draw(*each, 3).sigmoid() / 3,
        draw(*each, HEADINGS),
        draw(*each, HEADINGS) / 2,
    )


def targets(seed=1):
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(generator, SCENES, max(COUNTS))
    labels = torch.randint(CLASSES, (SCENES, max(COUNTS)), generator=generator)
    for scene, count in enumerate(COUNTS):
        labels[scene, count:] = -1
        boxes[scene, count:] = 0
    return boxes, labels


def layer_of(found, layer):
    return Queries(*found[:2], *(each[layer] for each in found[2:]))


def cost(found, layer, scene, query, box, label):
    """The cost of a pair, term by term."""
    shares = found.logits[layer, scene, query].softmax(dim=0)
    away = (found.centers[layer, scene, query] - box[:3]) / found.extent[scene]
    predicted = decode_queries(found)[layer, scene, query]
    return float(
        5 * away.abs().sum()
        - shares[label]
        - 3 * (1 - shares[-1])
        - 2 * generalized_iou(predicted, box)
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("part", ["logits", "centers", "sizes"])
def test_the_loss_of_a_diverged_network_is_not_finite(part, value):
    """The loop reports that; the matching has to get there."""
    found = random_queries()
    found = found._replace(**{part: torch.full_like(getattr(found, part), value)})
    terms = set_loss_terms(found, *targets(), COSTS, NO_OBJECT)
    assert not torch.stack(list(terms.values())).isfinite().all()


def best_of_all(found, layer, scene, boxes, labels):
    """The cheapest of all assignments: the query of each box."""
    count = COUNTS[scene]
    costs = [
        [cost(found, layer, scene, q, boxes[scene, k], labels[scene, k]) for k in range(count)]
        for q in range(QUERIES)
    ]
    ways = itertools.permutations(range(QUERIES), count)
    return min(ways, key=lambda way: sum(costs[q][k] for k, q in enumerate(way)))


def test_the_matching_is_the_cheapest_of_all():
    found, (boxes, labels) = random_queries(), targets()
    for layer in range(LAYERS):
        own, predicted = layer_of(found, layer), decode_queries(found)[layer]
        pairs = match(own, predicted, boxes, labels, COSTS)
        for scene, count in enumerate(COUNTS):
            mine = pairs.scene == scene
            assert mine.sum() == count
            of_box = dict(zip(pairs.box[mine].tolist(), pairs.query[mine].tolist(), strict=True))
            expected = best_of_all(found, layer, scene, boxes, labels)
            assert [of_box[k] for k in range(count)] == list(expected)


def plain_terms(found, boxes, labels):
    """The losses with loops, in the words of the paper."""
    sums = dict.fromkeys(("center", "size", "giou", "heading_class", "heading_residual"), 0.0)
    classes, count = 0.0, sum(COUNTS)
    for layer in range(LAYERS):
        weighed, weights = 0.0, 0.0
        for scene in range(SCENES):
            target = dict.fromkeys(range(QUERIES), CLASSES)
            for k, q in enumerate(best_of_all(found, layer, scene, boxes, labels)):
                box, extent = boxes[scene, k], found.extent[scene]
                target[q] = int(labels[scene, k])
                predicted = decode_queries(found)[layer, scene, q]
                sums["center"] += float(((predicted[:3] - box[:3]) / extent).abs().sum())
                sums["size"] += float(((predicted[3:6] - box[3:6]) / extent).abs().sum())
                sums["giou"] += 1 - float(generalized_iou(predicted, box))
                yaw = float(box[6]) % (2 * math.pi)
                near = round(yaw / (math.pi / 6))  # the bin whose middle is nearest
                rest = (yaw - near * math.pi / 6) / (math.pi / 12)
                logits = found.heading[layer, scene, q].log_softmax(dim=0)
                sums["heading_class"] -= float(logits[near % HEADINGS])
                off = abs(float(found.turn[layer, scene, q, near % HEADINGS]) - rest)
                sums["heading_residual"] += off**2 / 2 if off < 1 else off - 0.5
            for q, label in target.items():
                weight = NO_OBJECT if label == CLASSES else 1.0
                shares = found.logits[layer, scene, q].softmax(dim=0)
                weighed -= weight * math.log(float(shares[label]))
                weights += weight
        classes += weighed / weights
    return {name: value / count for name, value in sums.items()} | {"class": classes}


def test_losses_are_those_of_the_plain_version():
    found, (boxes, labels) = random_queries(), targets()
    terms = set_loss_terms(found, boxes, labels, COSTS, NO_OBJECT)
    expected = plain_terms(found, boxes, labels)
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(expected)


def test_the_order_of_queries_and_of_boxes_does_not_matter():
    found, (boxes, labels) = random_queries(), targets()
    expected = set_loss_terms(found, boxes, labels, COSTS, NO_OBJECT)
    queries, order = torch.randperm(QUERIES), torch.tensor([2, 3, 0, 1])
    shuffled = Queries(*found[:2], *(each[:, :, queries] for each in found[2:]))
    terms = set_loss_terms(shuffled, boxes[:, order], labels[:, order], COSTS, NO_OBJECT)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_scenes_without_boxes_have_only_a_loss_of_classes():
    found, (boxes, labels) = random_queries(), targets()
    for each in found:
        each.requires_grad_()
    terms = set_loss_terms(found, boxes, torch.full_like(labels, -1), COSTS, NO_OBJECT)
    assert [name for name, value in terms.items() if value > 0] == ["class"]
    torch.stack(list(terms.values())).sum().backward()
    assert all(each.grad.isfinite().all() for each in found[2:])


def test_gradients_lead_to_the_boxes():
    """By plain descent on what the network would say, all boxes of a scene are found."""
    found, (boxes, labels) = random_queries(), targets()
    boxes, labels = boxes[:1], labels[:1]
    low, extent = found.low[:1], found.extent[:1]
    rest = [each[:1, :1].clone().requires_grad_() for each in found[2:]]
    optimizer = torch.optim.Adam(rest, 0.1)
    for _ in range(120):
        queries = Queries(low, extent, *rest)
        terms = set_loss_terms(queries, boxes, labels, COSTS, NO_OBJECT)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    predicted = decode_queries(queries)[-1, 0].detach()
    shares = queries.logits[-1, 0].softmax(dim=1)
    overlaps = box_iou(boxes[0], predicted)
    assert overlaps.amax(dim=1).min() > 0.6
    nearest = overlaps.argmax(dim=1)
    assert shares[nearest].argmax(dim=1).tolist() == labels[0].tolist()
    others = np.setdiff1d(np.arange(QUERIES), nearest.numpy())
    assert (shares[others].argmax(dim=1) == CLASSES).all()


def test_detections_are_scored_by_objectness_and_class():
    """Every box as every class; boxes with fewer than five points are none."""
    found = random_queries()
    boxes = decode_queries(found)[-1]
    points = boxes[:, :, None, :3].expand(-1, -1, 5, -1).flatten(1, 2)
    detections = detect_queries(found, points, "rotated")
    shares = found.logits[-1].softmax(dim=2)
    for scene, each in enumerate(detections):
        assert len(each.label) % CLASSES == 0
        for box, label, score in zip(each.boxes, each.label, each.score, strict=True):
            (query,) = (boxes[scene].numpy() == box).all(axis=1).nonzero()[0]
            own = shares[scene, query]
            assert score == pytest.approx(float(own[label] * (1 - own[-1])))
    few = detect_queries(found, points[:, :4], "rotated")
    assert all(len(each.label) <= CLASSES for each in few)
