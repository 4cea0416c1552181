"""The noise of a depth camera, added to the exact depth of rendered images.

The noise grows with the square of the distance, as measured for the first Kinect by Nguyen, Izadi
and Lovell (2012); far, near and grazing surfaces and edges are not measured at all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera, pixel_centers

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Sensor:
    """What a depth camera measures, and how well.

    noise: σ(z) = noise[0] + noise[1] · (z - nearest)² in meters. nearest, farthest: the range in
    meters. grazing: degrees between view ray and normal from which nothing is measured. edge:
    pixels around a jump in depth that are lost; jump: its least size, relative to the depth.
    holes: the share of single pixels lost at random.
    """

    noise: tuple[float, float] = (0.0012, 0.0019)
    nearest: float = 0.4
    farthest: float = 6.0
    grazing: float = 75.0
    edge: int = 3
    jump: float = 0.05
    holes: float = 0.001


def sample_sensor(
    depth: NDArray[np.floating],
    camera: Camera,
    seed: int | tuple[int, ...],
    sensor: Sensor | None = None,
) -> NDArray[np.float32]:
    """Return what a depth camera would measure, [H,W] f32 meters, 0 where it measures nothing.

    depth: exact z depth [H,W] in meters, 0 where there is no surface. camera: the one camera of the
    image. The same seed gives the same noise. sensor: None means `Sensor()`.
    """
    sensor = sensor or Sensor()
    z = np.asarray(depth, np.float64)
    rng = np.random.Generator(np.random.PCG64(seed))
    draws = rng.random((3, *z.shape))  # only uniform draws: their stream is stable
    normal = np.sqrt(-2 * np.log1p(-draws[0])) * np.cos(2 * np.pi * draws[1])  # Box and Muller
    measured = z + (sensor.noise[0] + sensor.noise[1] * (z - sensor.nearest) ** 2) * normal
    valid = (z >= sensor.nearest) & (z <= sensor.farthest) & (draws[2] >= sensor.holes)
    valid &= ~_near_edges(z, sensor) & ~_grazing(z, camera, sensor)
    return np.where(valid, measured, 0.0).astype(np.float32)


def jitter_poses(
    world_to_camera: Floats, seed: int, meters: float = 0.002, degrees: float = 0.1
) -> Floats:
    """Return poses [V,4,4] with the errors of tracking: normal noise on each camera's axes.

    meters: standard deviation of the position along each axis; degrees: of the turn about each.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    draws = rng.random((2, len(world_to_camera), 6))
    noise = np.sqrt(-2 * np.log1p(-draws[0])) * np.cos(2 * np.pi * draws[1])
    shift, turn = meters * noise[:, :3], np.radians(degrees) * noise[:, 3:]
    error = np.tile(np.eye(4), (len(turn), 1, 1))
    error[:, :3, :3] = _rotations(turn)
    error[:, :3, 3] = shift
    return error @ world_to_camera


def _rotations(vectors: Floats) -> Floats:
    """Return rotation matrices [n,3,3] about vectors [n,3] by their lengths: Rodrigues' formula."""
    angle = np.sqrt((vectors**2).sum(axis=1))[:, None, None]
    x, y, z = (vectors / np.maximum(angle[:, 0], 1e-12)).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _near_edges(z: Floats, sensor: Sensor) -> Flags:
    """Tell which pixels are in a band of `edge` pixels around a jump between neighbors."""
    found = np.zeros(z.shape, bool)
    for axis in (0, 1):
        one, other = np.moveaxis(z, axis, 0)[:-1], np.moveaxis(z, axis, 0)[1:]
        jumps = np.abs(one - other) > sensor.jump * np.minimum(one, other)
        band = np.moveaxis(found, axis, 0)
        for shift in range(sensor.edge):
            offset = shift - (sensor.edge - 1) // 2
            first, last = max(0, offset), min(len(band), len(jumps) + offset)
            band[first:last] |= jumps[first - offset : last - offset]
    return found


def _grazing(z: Floats, camera: Camera, sensor: Sensor) -> Flags:
    """Tell which surfaces are seen at too small an angle, from differences of neighbors."""
    rays = pixel_centers(*z.shape[::-1]) - camera.K[:2, 2]
    rays = np.concatenate([rays / camera.K[[0, 1], [0, 1]], np.ones((*z.shape, 1))], axis=-1)
    points = rays * z[..., None]
    normal = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    length = np.sqrt((normal**2).sum(axis=-1) * (rays**2).sum(axis=-1))
    cosine = np.abs((normal * rays).sum(axis=-1)) / np.maximum(length, 1e-12)
    grazing: Flags = cosine < np.cos(np.radians(sensor.grazing))
    return grazing
