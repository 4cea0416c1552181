"""`load_frames`: read a folder of posed RGB-D frames as a scene."""

from pathlib import Path

from pointcmt.datasets.sources.frames import EXPECTED, Layout, layout_of
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.files import few_notes, path_in, refusals
from pointcmt.render.load.scenes.folder import SceneFolder
from pointcmt.render.load.scenes.ground import on_ground, turn_up
from pointcmt.render.load.scenes.layouts import exported, redwood, tum
from pointcmt.render.load.scenes.recording import frames_of, sample_points
from pointcmt.render.load.scenes.sidecar import read_sidecar
from pointcmt.render.load.scenes.transforms import transforms
from pointcmt.scenes import SceneData

_READERS = {
    Layout.TRANSFORMS: transforms,
    Layout.TUM: tum,
    Layout.EXPORTED: exported,
    Layout.REDWOOD: redwood,
}


def load_frames(record: ShapeRecord, root: Path, follow_links: bool = False) -> SceneData:
    """Return the scene in a folder that `list_frames` found, without points of its own.

    Frames with an invalid pose are left out and counted in the notes. The scene stands on the floor
    (percentile of what a few frames see); up is +Z of the source where its layout says so, else the
    upward direction of the first camera's image, unless `scene.json` says otherwise. sha256 covers
    poses, intrinsics and other texts by their content, images by their names and sizes. Raises
    ShapeRefused for anything wrong with the folder, and so does reading a frame whose images are
    damaged.
    """
    with refusals(root / record.source):
        folder = SceneFolder(path_in(root, record.source), root, follow_links)
        layout = layout_of(folder.inside("")) if folder.path.is_dir() else None
        if layout is None:
            raise ShapeRefused(Reason.MISSING_FILE, f"no posed frames here; expected {EXPECTED}")
        recording = _READERS[layout](folder, read_sidecar(folder))
        frames, notes = frames_of(recording)
        up = recording.up
        if up is None:
            up = -frames[0].camera_to_world[:3, 1]
            notes = (*notes, "up is that of the first camera's image (see scene.json)")
        return SceneData(
            frames=frames,
            source_to_world=on_ground(sample_points(frames), turn_up(up)),
            sha256=folder.digest(),
            notes=few_notes(notes),
        )
