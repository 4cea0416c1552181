// Views painted by points: which point each pixel shows, for layers that only points have.

const REACH = 1.7; // of a point, in mean distances between the points that a view sees

/** Return for each pixel of a view which of the first `count` points it shows, -1 = none: of the
 * visible points within reach, the one nearest to the pixel's surface. */
function pointMap(shape, view, count) {
  const key = `points ${view} ${count}`;
  if (!shape.drawn.has(key)) shape.drawn.set(key, makePointMap(shape, view, count));
  return shape.drawn.get(key);
}

function makePointMap(shape, view, count) {
  const { width, height, depthScale } = shape, camera = shape.cameras[view], size = width * height;
  const depth = shape.depth.subarray(view * size, (view + 1) * size);
  const seen = [];
  for (let n = 0; n < count; n++) if (sees(shape, view, n) !== false) seen.push(n);
  const covered = depth.reduce((sum, value) => sum + (value > 0), 0);
  const radius = Math.max(1.5, REACH * Math.sqrt(covered / Math.max(1, seen.length)));
  const map = new Int32Array(size).fill(-1), least = new Float32Array(size).fill(Infinity);
  for (const n of seen) {
    const [u, v, z] = project(camera, pointAt(shape, n));
    if (z <= 0) continue;
    const perPixel = z / camera.K[0]; // world units at the point's depth
    for (let row = Math.max(0, Math.ceil(v - radius - 0.5)); row < Math.min(height, v + radius); row++)
      for (let column = Math.max(0, Math.ceil(u - radius - 0.5)); column < Math.min(width, u + radius); column++) {
        const i = row * width + column, away = (column + 0.5 - u) ** 2 + (row + 0.5 - v) ** 2;
        if (!depth[i] || away > radius * radius) continue;
        const distance = away * perPixel ** 2 + (depth[i] * depthScale - z) ** 2;
        if (distance < least[i]) {
          least[i] = distance;
          map[i] = n;
        }
      }
  }
  return map;
}

const UNPAINTED = [226, 229, 233]; // a surface that shows no point

/** Return how many points have a value in a layer that only points have; 0 for other layers. */
function paintedPoints(shape, layer) {
  if (layer === "parts") return shape.part.length;
  if (layer === "features") return shape.feature_color.length / 3;
  return shape.labeling && (layer === "predicted" || layer === "truth") ? shape.labeling.predicted.length : 0;
}

/** Return a view's color at pixel i for such a layer. */
function paintedColor(shape, layer, view, i) {
  const n = pointMap(shape, view, paintedPoints(shape, layer))[i];
  if (n >= 0) return pointColor(shape, layer, n);
  return shape.depth[view * shape.width * shape.height + i] ? UNPAINTED : BLANK;
}
