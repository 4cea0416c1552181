"""Files for benchmarks that `predict` writes besides its own, by the name of their layout."""

from collections.abc import Iterator, Sequence

from pointcmt.api.benchmark_boxes import encode_mmdet3d, encode_votenet, require_benchmark
from pointcmt.api.predictions import Predictions
from pointcmt.api.scannet_files import encode_scannet, require_scannet, require_scans
from pointcmt.api.targets import Target
from pointcmt.errors import UsageError, nearest
from pointcmt.training.runs.folder import Run

SCANNET = "scannet"  # of classes of points; all others are of boxes
ENCODERS = {SCANNET: encode_scannet, "votenet": encode_votenet, "mmdet3d": encode_mmdet3d}


def require_layout(layout: str, run: Run, writes_folder: bool) -> None:
    """Raise UsageError unless a run's predictions can be written in a layout, into a folder."""
    if layout not in ENCODERS:
        raise UsageError(
            f"unknown layout '{layout}'", where="--layout", fix=nearest(layout, ENCODERS)
        )
    of_points = layout == SCANNET
    recipe = "semseg" if of_points else "detect"
    if run.config.recipe != recipe:
        what = "classes of points" if of_points else "boxes"
        raise UsageError(
            f"the layout '{layout}' is of {what}, which this run does not predict",
            where=str(run.folder),
            fix=f"leave out --layout, or pass a run of `train {recipe}`",
        )
    if of_points:
        require_scannet(run)
    if not writes_folder:
        raise UsageError(
            "files of a layout are written into a folder",
            where="--layout",
            fix="pass a folder as --out",
        )


def require_targets(layout: str, run: Run, targets: Sequence[Target]) -> None:
    """Raise UsageError unless these are targets of the layout's benchmark, each scene once."""
    if layout == SCANNET:
        require_scans(targets)
    else:
        require_benchmark(run, targets)


def encode_layout(layout: str, found: Predictions) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a layout."""
    return ENCODERS[layout](found)
