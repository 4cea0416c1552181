// Colors of pixels and points, [r, g, b] from 0 to 255, for each layer.

const RAMP = [[253, 231, 37], [94, 201, 98], [33, 145, 140], [59, 82, 139], [68, 1, 84]]; // near to far
const BLANK = [255, 255, 255], UNKNOWN = [140, 140, 140];

/** Return a color for a share from 0 (near) to 1 (far). */
function rampColor(share) {
  const place = Math.min(0.9999, Math.max(0, share)) * (RAMP.length - 1), low = Math.floor(place);
  return RAMP[low].map((value, i) => value + (place - low) * (RAMP[low + 1][i] - value));
}

/** Return a color for a number; neighboring numbers differ. -1 has none. */
function idColor(id) {
  if (id < 0) return BLANK;
  const mixed = Math.imul(id + 1, 0x9e3779b1) >>> 0;
  const hue = (mixed >>> 8) % 360 / 60, value = 150 + (mixed & 63), pale = 60 + (mixed >>> 6 & 31);
  const channel = (shift) => {
    const k = (hue + shift) % 6;
    return value - (value - pale) * Math.max(0, Math.min(k, 4 - k, 1));
  };
  return [channel(5), channel(3), channel(1)];
}

/** Return the color of a normal [x, y, z] as stores encode it: 128 + 127 n. */
function normalColor(normal) {
  return normal.map((value) => 128 + 127 * value);
}

function labelColor(label) {
  return index.palette[label] ?? (label < 0 ? UNKNOWN : idColor(label));
}

/** Return the normal of the surface at a pixel in the camera's axes, from depth; null where there is
 * none: the cross product of the steps to its neighbors on the same surface. */
function depthNormal(shape, view, column, row) {
  const camera = { K: shape.cameras[view].K, pose: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1] };
  const depth = depthAt(shape, view, column, row);
  if (!depth) return null;
  const at = (c, r, d) => unproject(camera, c + 0.5, r + 0.5, d);
  const here = at(column, row, depth);
  const step = (dc, dr) => {
    for (const sign of [1, -1]) {
      const other = depthAt(shape, view, column + sign * dc, row + sign * dr);
      if (other && Math.abs(other - depth) < 0.05 * depth)
        return at(column + sign * dc, row + sign * dr, other).map((value, i) => sign * (value - here[i]));
    }
    return null;
  };
  const a = step(0, 1), b = step(1, 0);
  if (!a || !b) return null;
  const n = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const length = Math.hypot(...n);
  return length ? n.map((value) => value / length) : null;
}

/** Return the least and the greatest depth of all views. */
function depthRange(shape) {
  if (!shape.range) {
    let low = Infinity, high = 0;
    for (const depth of shape.depth)
      if (depth) {
        low = Math.min(low, depth);
        high = Math.max(high, depth);
      }
    shape.range = [low * shape.depthScale, high * shape.depthScale];
  }
  return shape.range;
}

/** Return a view's color at a pixel for a layer that is made from arrays. */
function pixelColor(shape, layer, view, column, row) {
  const i = (view * shape.height + row) * shape.width + column;
  if (paintedPoints(shape, layer)) return paintedColor(shape, layer, view, row * shape.width + column);
  if (layer === "ids") return idColor(shape.ids[i]);
  if (layer === "labels") return labelColor(shape.labels[i]);
  if (layer === "normals") {
    const normal = depthNormal(shape, view, column, row);
    return normal ? normalColor(normal) : BLANK;
  }
  const depth = depthAt(shape, view, column, row), [low, high] = depthRange(shape);
  return depth ? rampColor((depth - low) / (high - low || 1)) : BLANK;
}

/** Return what to draw of a view: a stored image, or a canvas made from an array. */
function layerImage(shape, layer, view) {
  const shown = ["predicted", "truth", "matches"].includes(layer) && !paintedPoints(shape, layer) ? "rgb" : layer;
  return shown === layer ? ownImage(shape, layer, view) : shape.images.rgb[view];
}

function ownImage(shape, layer, view) {
  const stored = shape.images[layer === "normals" ? "normal" : layer];
  if (stored) return stored[view];
  const key = `${layer} ${view}`;
  if (!shape.drawn.has(key)) {
    const canvas = document.createElement("canvas");
    canvas.width = shape.width;
    canvas.height = shape.height;
    const context = canvas.getContext("2d"), image = context.createImageData(shape.width, shape.height);
    for (let row = 0, i = 0; row < shape.height; row++)
      for (let column = 0; column < shape.width; column++, i += 4) {
        image.data.set(pixelColor(shape, layer, view, column, row), i);
        image.data[i + 3] = 255;
      }
    context.putImageData(image, 0, 0);
    shape.drawn.set(key, canvas);
  }
  return shape.drawn.get(key);
}

/** Return the color of point n for a layer, except for depth, which depends on the eye; null if the
 * point has none. */
function pointColor(shape, layer, n) {
  const of = (array) => [array[n], array[shape.count + n], array[2 * shape.count + n]];
  const painted = paintedPoints(shape, layer);
  if (painted) {
    if (n >= painted) return null;
    if (layer === "features") return [0, 1, 2].map((channel) => shape.feature_color[channel * painted + n]);
    if (layer === "parts") return idColor(shape.part[n]);
    return runColor((layer === "truth" ? shape.labeling.true : shape.labeling.predicted)[n]);
  }
  if (layer === "normals") return normalColor(of(shape.normals).map((value) => value / 127));
  if (layer === "labels" && shape.semantic) return labelColor(shape.semantic[n]);
  if (layer === "ids") {
    const ids = shape.instance ?? shape.point_face;
    return ids && ids[n] >= 0 ? idColor(ids[n]) : UNKNOWN;
  }
  return shape.color ? of(shape.color) : UNKNOWN;
}
