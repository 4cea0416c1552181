"""Multi-view images, exact correspondences and cross-modal training for 3D shapes.

`import pointcmt as pc` loads nothing else: each name below is loaded on first use, together with
only the libraries that it needs. docs/python.md shows all of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; HOMES has the same names
    from pointcmt.api.exports import export
    from pointcmt.api.jobs import RenderSettings, preview, render
    from pointcmt.api.networks import (
        TrainedModel,
        TrainResult,
        backbone,
        evaluate,
        load_run,
        train,
    )
    from pointcmt.api.predicted import PredictedBoxes, PredictedParts, PredictedPoints
    from pointcmt.api.prediction import predict
    from pointcmt.api.predictions import FailedShape, Prediction, Predictions
    from pointcmt.api.shapes import (
        DrawSettings,
        RenderedViews,
        load_cloud,
        load_mesh,
        normalize,
        render_views,
        sample_points,
    )
    from pointcmt.api.stores import (
        JoinedStores,
        StoredShape,
        ViewStore,
        join_stores,
        open_store,
    )
    from pointcmt.api.viewing.pages import view
    from pointcmt.cameras import Camera, Rig, View, find_rig
    from pointcmt.datasets.store.streaming import ViewDataset
    from pointcmt.errors import (
        DamageError,
        DependencyError,
        PointcmtError,
        ShapeError,
        StoreError,
        UsageError,
    )
    from pointcmt.shapes import Cloud, Material, Mesh, UnitMesh

__version__ = "0.1.0"

__all__ = [
    "Camera",
    "Cloud",
    "DamageError",
    "DependencyError",
    "DrawSettings",
    "FailedShape",
    "JoinedStores",
    "Material",
    "Mesh",
    "PointcmtError",
    "PredictedBoxes",
    "PredictedParts",
    "PredictedPoints",
    "Prediction",
    "Predictions",
    "RenderSettings",
    "RenderedViews",
    "Rig",
    "ShapeError",
    "StoreError",
    "StoredShape",
    "TrainResult",
    "TrainedModel",
    "UnitMesh",
    "UsageError",
    "View",
    "ViewDataset",
    "ViewStore",
    "__version__",
    "backbone",
    "evaluate",
    "export",
    "find_rig",
    "join_stores",
    "load_cloud",
    "load_mesh",
    "load_run",
    "normalize",
    "open_store",
    "predict",
    "preview",
    "render",
    "render_views",
    "sample_points",
    "train",
    "view",
]

# Module → its public names, and the extra that installs its libraries.
HOMES: dict[str, tuple[str, str]] = {
    "api.exports": ("export", ""),
    "api.jobs": ("RenderSettings preview render", "render"),
    "api.networks": ("TrainResult TrainedModel backbone evaluate load_run train", "train"),
    "api.predicted": ("PredictedBoxes PredictedParts PredictedPoints", ""),
    "api.prediction": ("predict", "train"),
    "api.predictions": ("FailedShape Prediction Predictions", ""),
    "api.shapes": (
        "DrawSettings RenderedViews load_cloud load_mesh normalize render_views sample_points",
        "render",
    ),
    "api.stores": ("JoinedStores StoredShape ViewStore join_stores open_store", ""),
    "api.viewing.pages": ("view", ""),
    "cameras": ("Camera Rig View find_rig", ""),
    "datasets.store.streaming": ("ViewDataset", "train"),
    "errors": (
        "DamageError DependencyError PointcmtError ShapeError StoreError UsageError",
        "",
    ),
    "shapes": ("Cloud Material Mesh UnitMesh", ""),
}
_HOME_OF = {name: home for home, (names, _) in HOMES.items() for name in names.split()}


def load_public(name: str) -> Any:
    """Load a public name from its module. Raises DependencyError if a library is missing."""
    from pointcmt.extras import needs

    home = _HOME_OF[name]
    with needs(HOMES[home][1] or "render", f"pointcmt.{name}"):
        return getattr(importlib.import_module(f"pointcmt.{home}"), name)


if not TYPE_CHECKING:  # otherwise type checkers would accept any misspelled name

    def __getattr__(name):
        if name not in _HOME_OF:
            raise AttributeError(f"module 'pointcmt' has no attribute '{name}'")
        if name in ("render", "view"):  # packages of these names are callable: see their docstrings
            return importlib.import_module(f"pointcmt.{name}")
        value = globals()[name] = load_public(name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
