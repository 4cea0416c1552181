"""Images of classes beside ScanNet's exported frames, as in `scannet_frames_25k`.

`label/NNNNNN.png` holds the NYU40 id of each pixel of the color image (ScanNet's
BenchmarkScripts/2d_helpers). `instance/` is not read: it numbers the objects of each image by
themselves, so the same object has other numbers in other frames.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.scannet import CLASSES
from pointcmt.render.load.scenes.folder import SceneFolder
from pointcmt.render.load.scenes.images import decode_labels
from pointcmt.render.load.scenes.layouts import by_number
from pointcmt.render.load.scenes.recording import Recording
from pointcmt.scenes import IGNORE

LABELS = "label"
_CLASS_OF = np.full(max(CLASSES) + 2, IGNORE, np.int16)  # of each id, and of all that are larger
_CLASS_OF[list(CLASSES)] = np.arange(len(CLASSES))


def with_labels(folder: SceneFolder, recording: Recording) -> Recording:
    """Return exported frames with the labels of those that have an image of them.

    Notes how many frames lack one, if others do not. Raises ShapeRefused for two images of a frame.
    """
    names = by_number(folder.names(LABELS), (".png",))
    if not names:
        return recording
    shots, missing = [], 0
    for shot in recording.shots:
        if shot.number not in names:
            missing += 1
            shots.append(shot)
            continue
        name = f"{LABELS}/{names[shot.number]}"
        folder.add_image(name)
        shots.append(replace(shot, labels=partial(_read, folder, name)))
    notes = (f"{missing} frames have no image of labels",) if missing else ()
    return replace(recording, shots=tuple(shots), notes=(*recording.notes, *notes))


def _read(folder: SceneFolder, name: str) -> NDArray[np.int16]:
    """Return the class index of each pixel; ids that are not of the benchmark are ignored."""
    ids = decode_labels(folder.read_image(name), name)
    return _CLASS_OF[np.clip(ids, 0, len(_CLASS_OF) - 1)]
