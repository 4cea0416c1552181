"""Pictures of scenes: frames with their labels, a map from above with boxes, points on pixels."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.scenes import box_corners

MAP_POINTS = 40_000  # the first n points: evenly spread, since points are in voxel order
HEAD_ROOM = 0.25  # of a scene's height: what is above is left out of the map, such as ceilings
UNLABELED = (110, 110, 110)
MATCHES = 12  # lines between two frames
LABEL_SHARE = 0.55  # of a label's color in a frame
FEWEST_ROWS = 240  # pixels: smaller frames are enlarged, since labels and lines need room


def palette(store: ViewStore) -> NDArray[np.uint8]:
    """Return a color per semantic class, and as the last one that of points without a class."""
    return np.array([*store.attributes["palette"], UNLABELED], np.uint8)


def frames_with_labels(store: ViewStore, scene: int, views: list[int]) -> NDArray[np.uint8]:
    """Return frames [V,H,W,3], tinted by the classes of their pixels if these are stored."""
    images = store.read("rgb", scene)[views]
    if "semantic_image" not in store.specs:
        return images
    labels = store.read("semantic_image", scene)[views]
    tinted = (1 - LABEL_SHARE) * images + LABEL_SHARE * palette(store)[labels]
    return np.where(labels[..., None] >= 0, np.rint(tinted), images).astype(np.uint8)


def enlarged(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return frames [V,H,W,3], enlarged by a whole number so that H is at least FEWEST_ROWS."""
    factor = -(-FEWEST_ROWS // frames.shape[1])
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def map_from_above(store: ViewStore, scene: int, size: int) -> Image.Image:
    """Draw the points as seen from above, x to the right and y up, with boxes and the cameras.

    size: of the square picture in pixels. A line leads from a box's center in the direction of its
    yaw, and from a camera in that of its view.
    """
    points = store.read("points", scene, slice(0, MAP_POINTS))
    colors = store.read("color", scene, slice(0, MAP_POINTS))
    if "semantic" in store.specs:
        colors = palette(store)[store.read("semantic", scene, slice(0, MAP_POINTS))]
    poses = store.read("world_to_camera", scene)
    centers = -np.einsum("vji,vj->vi", poses[:, :3, :3], poses[:, :3, 3])
    places = np.concatenate([points, centers])
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (size - 8) / max(high[0] - low[0], high[1] - low[1], 1e-6)

    def place(xy: NDArray[np.floating]) -> NDArray[np.float64]:
        shifted = (np.asarray(xy, np.float64) - low[:2]) * scale + 4
        return np.stack([shifted[..., 0], size - 1 - shifted[..., 1]], axis=-1)

    picture = np.full((size, size, 3), 255, np.uint8)
    bottom, top = points[:, 2].min(), points[:, 2].max()
    shown = points[:, 2] <= top - HEAD_ROOM * (top - bottom)
    order = np.flatnonzero(shown)[np.argsort(points[shown, 2], kind="stable")]
    column, row = np.clip(place(points[order, :2]).astype(int), 0, size - 2).T
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        picture[row + down, column + right] = colors[order]
    sheet = Image.fromarray(picture)
    draw = ImageDraw.Draw(sheet)
    for box in store.read("boxes", scene) if "boxes" in store.specs else ():
        corners = place(box_corners(box[None])[0, :4, :2])
        draw.polygon([tuple(corner) for corner in corners], outline="black")
        front = box[:2] + box[3] / 2 * np.array([np.cos(box[6]), np.sin(box[6])])
        draw.line([tuple(place(box[:2])), tuple(place(front))], fill="black")
    for pose, center in zip(poses, centers, strict=True):
        ahead = center + 0.25 * pose[2, :3]
        draw.line([tuple(place(center[:2])), tuple(place(ahead[:2]))], fill="#d02090", width=2)
    return sheet


def matches_between(store: ViewStore, scene: int, views: tuple[int, int]) -> Image.Image:
    """Draw two frames side by side with lines between the pixels of the same points.

    The points are the first that both frames see, which lie evenly over the scene.
    """
    images = enlarged(np.stack([store.read("rgb", scene, view) for view in views]))
    width = images.shape[2]
    scale = width / store.schema.image[1]
    sheet = Image.fromarray(np.concatenate(list(images), axis=1))
    draw = ImageDraw.Draw(sheet)
    visible, camera = store.visible(scene), store.camera(scene)
    shared = np.flatnonzero(visible[views[0]] & visible[views[1]])[:MATCHES]
    points = store.read("points", scene)[shared]
    places = [scale * camera[view].project(points)[0] for view in views]
    for number, (left, right) in enumerate(zip(*places, strict=True)):
        color = f"hsl({360 * number // MATCHES}, 90%, 50%)"
        ends = tuple(left), (right[0] + width, right[1])
        draw.line(ends, fill=color, width=1)
        for u, v in ends:
            draw.ellipse((u - 2, v - 2, u + 2, v + 2), outline=color)
    return sheet


def pair_with_overlap(store: ViewStore, scene: int) -> tuple[int, int] | None:
    """Return two frames that share many points and differ; None if no two share any.

    overlap(a, b) = |seen by both| / min(|seen by a|, |seen by b|), nearest to one half.
    """
    visible = store.visible(scene)[:, :MAP_POINTS].astype(np.int32)
    shared = visible @ visible.T
    seen = np.diagonal(shared)
    with np.errstate(divide="ignore", invalid="ignore"):
        overlap = shared / np.minimum(seen[:, None], seen[None, :])
    first, second = np.triu_indices(len(visible), 1)
    values = np.nan_to_num(overlap[first, second])
    if not len(values) or not values.max() > 0:
        return None
    best = int(np.argmin(np.where(values > 0, np.abs(values - 0.5), np.inf)))
    return int(first[best]), int(second[best])
