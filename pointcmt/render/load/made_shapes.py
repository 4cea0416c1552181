"""Shapes and scenes made by a data source, checked like those that are read from files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pointcmt.datasets.store.schema import ShapeRecord, digest
from pointcmt.render.load.files import few_notes, path_in, refusals
from pointcmt.scenes import SceneData
from pointcmt.shapes import Cloud, Mesh

Made = Mesh | Cloud | SceneData
Make = Callable[[ShapeRecord, Path | None], Made]  # Source.load_shape


def make_mesh(make: Make, record: ShapeRecord, root: Path | None) -> tuple[Mesh, str]:
    """Make a mesh; return it with the SHA-256 of its vertices and faces. Raises ShapeRefused."""
    shape = _make(make, record, root)
    with refusals(Path(record.source)):
        if not isinstance(shape, Mesh):
            raise TypeError(f"the source returned a {type(shape).__name__}, not a Mesh")
    sha256 = digest(shape.vertices.tobytes() + shape.faces.tobytes())
    return replace(shape, notes=few_notes(shape.notes)), sha256


def make_cloud(make: Make, record: ShapeRecord, root: Path | None) -> tuple[Cloud, str]:
    """Make a cloud; return it with the SHA-256 of its points. Raises ShapeRefused."""
    shape = _make(make, record, root)
    with refusals(Path(record.source)):
        if not isinstance(shape, Cloud):
            raise TypeError(f"the source returned a {type(shape).__name__}, not a Cloud")
    return replace(shape, notes=few_notes(shape.notes)), digest(shape.points.tobytes())


def make_scene(make: Make, record: ShapeRecord, root: Path | None) -> SceneData:
    """Make a scene. Raises ShapeRefused."""
    scene = _make(make, record, root)
    with refusals(Path(record.source)):
        if not isinstance(scene, SceneData):
            raise TypeError(f"the source returned a {type(scene).__name__}, not a SceneData")
    return replace(scene, notes=few_notes(scene.notes))


def _make(make: Make, record: ShapeRecord, root: Path | None) -> Made:
    with refusals(Path(record.source)):
        if root is not None:
            path_in(root, record.source)  # the record may be untrusted
        return make(record, root)
