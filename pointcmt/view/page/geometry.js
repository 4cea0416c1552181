"use strict";
// Cameras and points. A camera is {K: 9 numbers, pose: 16 numbers (world to camera, row by row)},
// axes x right, y down, z forward; a pixel (column, row) has its center at (u, v) = (column + 0.5,
// row + 0.5). docs/conventions.md of pointcmt has pictures.

/** Return a world point in the camera's axes, [x, y, z]. */
function toCamera(camera, [x, y, z]) {
  const m = camera.pose;
  return [
    m[0] * x + m[1] * y + m[2] * z + m[3],
    m[4] * x + m[5] * y + m[6] * z + m[7],
    m[8] * x + m[9] * y + m[10] * z + m[11],
  ];
}

/** Return a world point's [u, v, depth]; behind the camera, depth is negative. */
function project(camera, point) {
  const [x, y, z] = toCamera(camera, point), K = camera.K;
  return [(K[0] * x + K[1] * y) / z + K[2], K[4] * y / z + K[5], z];
}

/** Return the world point at (u, v) and a depth along the camera's axis. */
function unproject(camera, u, v, depth) {
  const K = camera.K, m = camera.pose;
  const y = (v - K[5]) / K[4] * depth;
  const x = ((u - K[2]) * depth - K[1] * y) / K[0];
  const local = [x - m[3], y - m[7], depth - m[11]];
  return [0, 1, 2].map((axis) => m[axis] * local[0] + m[axis + 4] * local[1] + m[axis + 8] * local[2]);
}

/** Return the camera's position in the world. */
function cameraCenter(camera) {
  return unproject(camera, 0, 0, 0);
}

/** Return a shape's point n, [x, y, z]. */
function pointAt(shape, n) {
  return [shape.points[n], shape.points[shape.count + n], shape.points[2 * shape.count + n]];
}

/** Return whether a view sees point n; null if the store has no correspondences. */
function sees(shape, view, n) {
  if (!shape.visible) return null;
  const bytes = Math.ceil(shape.count / 8);
  return (shape.visible[view * bytes + (n >> 3)] >> (7 - (n & 7)) & 1) === 1;
}

/** Return the point that a view sees nearest to (u, v), within a radius in pixels; -1 if there is
 * none. Without correspondences, of all points in front of the camera. Ties: the lower index. */
function nearestPoint(shape, view, u, v, radius) {
  let best = -1, least = radius * radius;
  for (let n = 0; n < shape.count; n++) {
    if (sees(shape, view, n) === false) continue;
    const [pu, pv, depth] = project(shape.cameras[view], pointAt(shape, n));
    const distance = (pu - u) ** 2 + (pv - v) ** 2;
    if (depth > 0 && (distance < least || (best < 0 && distance === least))) {
      best = n;
      least = distance;
    }
  }
  return best;
}

/** Return the depth of a pixel in world units, 0 = background or outside of the image. */
function depthAt(shape, view, column, row) {
  if (column < 0 || row < 0 || column >= shape.width || row >= shape.height) return 0;
  return shape.depth[(view * shape.height + row) * shape.width + column] * shape.depthScale;
}

/** Return whether a view shows a surface point: the depth of its pixel agrees within 2 %. */
const DEPTH_TOLERANCE = 0.02;
function showsSurface(shape, view, point) {
  const [u, v, z] = project(shape.cameras[view], point);
  const depth = z > 0 ? depthAt(shape, view, Math.floor(u), Math.floor(v)) : 0;
  return depth > 0 && Math.abs(depth - z) <= DEPTH_TOLERANCE * z;
}

/** Return the part of a segment of world points that is in front of a camera, as two [u, v]; null
 * if none is. */
const NEAR = 0.02;
function projectSegment(camera, a, b) {
  const za = toCamera(camera, a)[2], zb = toCamera(camera, b)[2];
  if (za < NEAR && zb < NEAR) return null;
  const cut = (from, to, zf, zt) => {
    const share = (NEAR - zf) / (zt - zf);
    return zf >= NEAR ? from : from.map((value, axis) => value + share * (to[axis] - value));
  };
  return [project(camera, cut(a, b, za, zb)), project(camera, cut(b, a, zb, za))];
}

/** Return the 12 edges of a box [x y z, dx dy dz, yaw] as pairs of world points. */
function boxEdges([x, y, z, dx, dy, dz, yaw]) {
  const cos = Math.cos(yaw), sin = Math.sin(yaw);
  const corner = (i) => {
    const a = (i & 1 ? dx : -dx) / 2, b = (i & 2 ? dy : -dy) / 2, c = (i & 4 ? dz : -dz) / 2;
    return [x + a * cos - b * sin, y + a * sin + b * cos, z + c];
  };
  const edges = [];
  for (let i = 0; i < 8; i++)
    for (const bit of [1, 2, 4]) if (!(i & bit)) edges.push([corner(i), corner(i | bit)]);
  return edges;
}
