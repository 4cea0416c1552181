"""Boxes as other projects' evaluations of ScanNet and SUN RGB-D read them.

Neither data set has a server that takes boxes: published scores are those of VoteNet's evaluation,
or of mmdetection3d's, on ScanNet's val scans and SUN RGB-D's first 5,050 frames.

votenet: SCENE_pred_map_cls.txt, a line for each detection: the class's number, eight corners as 24
    numbers, and the score (facebookresearch/votenet, models/dump_helper.py). Corners are in its
    upright camera coordinates: x right, y down, z forward (flip_axis_to_camera of
    models/ap_helper.py), in the order of get_3d_box of utils/box_util.py.
mmdet3d: preds/SCENE.json with labels_3d, scores_3d, bboxes_3d and box_type_3d, as mmdetection3d's
    own inference writes them (mmdet3d/apis/inferencers/base_3d_inferencer.py). Boxes of the type
    Depth are the middle of the bottom, full sizes, and the yaw counter-clockwise from +X.

Both number the classes of ScanNet and of SUN RGB-D in the same way.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointcmt.api.predictions import Predictions
from pointcmt.api.stores import ViewStore
from pointcmt.api.targets import Target, require_file_names
from pointcmt.datasets.joint import match_names
from pointcmt.datasets.sources import scannet, sunrgbd
from pointcmt.errors import ShapeRefused, StoreError, UsageError
from pointcmt.extras import needs
from pointcmt.render.scenes.boxes import boxes_in_world
from pointcmt.scenes import box_corners
from pointcmt.training.evaluation.classes import listing
from pointcmt.training.ops.detection.scores import Detections
from pointcmt.training.runs.folder import Run

# Dataset → classes of its benchmark, in its order.
BENCHMARKS = {"scannet": scannet.LABELS.boxes} | dict.fromkeys(
    sunrgbd.VARIANTS, sunrgbd.LABELS.boxes
)
DIGITS = 6  # of meters and scores
TURN = 1e-6  # how much two equal rotations may differ
# Corners of `box_corners` in the order of get_3d_box.
IN_ORDER = [0, 3, 2, 1, 4, 7, 6, 5]


def require_benchmark(run: Run, targets: Sequence[Target]) -> None:
    """Raise UsageError unless all targets are stores of one benchmark, which has the run's classes.

    Each scene has to be there once.
    """
    names: set[tuple[str, ...]] = set()
    scans: list[str] = []
    for target in targets:
        name = "" if target.store is None else target.store.attributes["source"]["name"]
        if name not in BENCHMARKS:
            raise UsageError(
                "boxes for a benchmark are those of a store of ScanNet or SUN RGB-D",
                where=target.name or "TARGET",
                fix="pass a store that `pointcmt render --dataset scannet` or `sunrgbd` made, or "
                "leave out --layout",
            )
        assert target.store is not None
        names.add(BENCHMARKS[name])
        scans += [target.store.shapes[scene].id for scene in target.shapes.tolist()]
    require_file_names(scans, "file of boxes")
    if len(names) > 1:
        raise UsageError(
            "ScanNet and SUN RGB-D have different classes",
            where="TARGET",
            fix="predict them one at a time, each into its own --out",
        )
    index = match_names(run.class_names, names.pop())
    unknown = [name for name, of in zip(run.class_names, index, strict=True) if of < 0]
    if unknown:
        raise UsageError(
            f"the run predicts classes that the benchmark does not have: {listing(unknown)}",
            where="--layout",
            fix="pass a run that was trained on the benchmark's data set",
        )


def in_benchmark(
    store: ViewStore, scene: int, found: Detections, class_names: Sequence[str]
) -> Detections:
    """Return a scene's detections with the benchmark's coordinates and numbers of classes.

    A store has put the floor at z = 0, and scans of ScanNet above the origin. Raises StoreError if
    ScanNet's folder, which tells the axis alignment, is gone or has changed.
    """
    to_world = store.read("source_to_world", scene)
    name = store.attributes["source"]["name"]
    of_source = _alignment(store, scene, to_world) if name == "scannet" else np.eye(4)
    boxes = boxes_in_world(np.asarray(found.boxes), of_source @ np.linalg.inv(to_world))
    number = match_names(class_names, BENCHMARKS[name])
    return Detections(boxes, number[found.label], found.score)


def _alignment(store: ViewStore, scene: int, to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the axis alignment [4,4] of a scan, from the folder that the store was made from."""
    with needs("render", "reading files"):
        from pointcmt.render.load.scenes.scannet import read_alignment

    record, root = store.shapes[scene], Path(store.attributes["source"]["root"] or "")
    found = None
    with suppress(ShapeRefused):  # it has changed
        if (root / record.source).is_dir():
            found = read_alignment(root, record.source)
    if found is None or np.abs(found[:3, :3] - to_world[:3, :3]).max() > TURN:
        raise StoreError(
            f"the axis alignment of {record.id} is not what it was when the store was rendered",
            where=str(root / record.source),
            fix="put ScanNet's folder back where it was, since the store does not hold it",
        )
    return found


def encode_votenet(found: Predictions) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each scene's file for VoteNet."""
    for scene, detections in _detections(found):
        x, y, z = np.moveaxis(box_corners(detections.boxes)[:, IN_ORDER], 2, 0)
        corners = np.stack([x, -z, y], axis=2).reshape(-1, 24).tolist()
        columns = detections.label.tolist(), corners, detections.score.tolist()
        lines = [
            f"{label} {','.join(f'{number:.{DIGITS}f}' for number in numbers)} {score:.{DIGITS}g}\n"
            for label, numbers, score in zip(*columns, strict=True)
        ]
        yield f"{scene}_pred_map_cls.txt", "".join(lines).encode()


def encode_mmdet3d(found: Predictions) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each scene's file for mmdetection3d."""
    for scene, detections in _detections(found):
        boxes = np.asarray(detections.boxes, np.float64).copy()
        boxes[:, 2] -= boxes[:, 5] / 2
        result = {
            "labels_3d": detections.label.tolist(),
            "scores_3d": [float(f"{score:.{DIGITS}g}") for score in detections.score.tolist()],
            "bboxes_3d": np.round(boxes, DIGITS).tolist(),
            "box_type_3d": "Depth",
        }
        yield f"preds/{scene}.json", json.dumps(result).encode()


def _detections(found: Predictions) -> Iterator[tuple[str, Detections]]:
    """Yield each scene's name and all of its detections, as the benchmark has them."""
    for scene in found.shapes:
        if scene.boxes is not None and scene.boxes.detections is not None:
            yield scene.id, scene.boxes.detections
