"""Label files for ScanNet's benchmark of semantic segmentation.

One text file per scan, SCENE.txt, with the NYU40 id of a vertex of SCENE_vh_clean_2.ply on each
line, in the order of that file (kaldir.vc.in.tum.de/scannet_benchmark/documentation).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from pointcmt.api.predictions import Predictions
from pointcmt.api.targets import Target, require_file_names
from pointcmt.datasets.joint import match_names
from pointcmt.datasets.sources.scannet import CLASSES, MESH, NAMES
from pointcmt.errors import UsageError
from pointcmt.training.evaluation.classes import listing
from pointcmt.training.runs.folder import Run


def require_scannet(run: Run) -> None:
    """Raise UsageError unless ScanNet has the run's classes."""
    index = match_names(run.class_names, NAMES)
    unknown = [name for name, of in zip(run.class_names, index, strict=True) if of < 0]
    if unknown:
        raise UsageError(
            f"the run predicts classes that ScanNet's benchmark does not have: {listing(unknown)}",
            where="--layout scannet",
            fix="pass a run that was trained on ScanNet",
        )


def require_scans(targets: Sequence[Target]) -> None:
    """Raise UsageError unless each file is a mesh of ScanNet, and each scan is there once."""
    scans: list[str] = []
    for target in targets:
        if target.store is not None:
            scans += [target.store.shapes[scene].id for scene in target.shapes.tolist()]
            continue
        for entry in target.entries:
            if not entry.record.source.endswith(f"{MESH}.ply"):
                raise UsageError(
                    "label files are of the vertices of ScanNet's meshes",
                    where=entry.path,
                    fix=f"pass files named SCENE{MESH}.ply, folders that hold them, or a store of "
                    "ScanNet",
                )
            scans.append(entry.record.id)
    require_file_names(scans, "label file")


def encode_scannet(found: Predictions) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each label file. found: of the vertices, in their order."""
    ids = np.array([*CLASSES])[match_names(found.class_names, NAMES)]
    for scene in found.shapes:
        if scene.points is not None:
            lines = ids[scene.points.labels].tolist()
            yield f"{scene.id}.txt", ("\n".join(map(str, lines)) + "\n").encode()
