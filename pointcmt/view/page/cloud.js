// The turning cloud: points, the cameras, boxes and the chosen point, seen by a camera of our own.

const FOV = 40 * Math.PI / 180;
const NEAREST_CLICK = 14; // page pixels around a click in which a point is chosen
const orbit = { yaw: -1.0, pitch: 0.35, zoom: 1, center: [0, 0, 0], radius: 1 };

/** Point the orbit at a shape. withCameras: make room for them. */
function frameCloud(shape, withCameras) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  const points = Array.from({ length: shape.count }, (_, n) => pointAt(shape, n));
  for (const point of points)
    point.forEach((value, axis) => {
      low[axis] = Math.min(low[axis], value);
      high[axis] = Math.max(high[axis], value);
    });
  orbit.center = low.map((value, axis) => (value + high[axis]) / 2);
  const reach = (place) => Math.hypot(...place.map((value, axis) => value - orbit.center[axis]));
  orbit.radius = points.reduce((most, point) => Math.max(most, reach(point)), 0) / 1.15 || 1;
  if (withCameras)
    for (const camera of shape.cameras)
      orbit.radius = Math.max(orbit.radius, 1.1 * reach(cameraCenter(camera)));
}

/** Return the camera that looks at the cloud, for an image of these pixels. */
function orbitCamera(width, height) {
  const { yaw, pitch, zoom, center, radius } = orbit;
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  const distance = radius / Math.sin(FOV / 2) / zoom;
  const eye = [cp * cy, cp * sy, sp].map((value, axis) => center[axis] + distance * value);
  const rows = [[-sy, cy, 0], [sp * cy, sp * sy, -cp], [-cp * cy, -cp * sy, -sp]];
  const pose = rows.flatMap((row) => [...row, -row.reduce((sum, value, axis) => sum + value * eye[axis], 0)]);
  const focal = Math.min(width, height) / 2 / Math.tan(FOV / 2);
  return { K: [focal, 0, width / 2, 0, focal, height / 2, 0, 0, 1], pose, eye };
}

/** Return whether point n faces away. Only scenes hide such points, to show what is inside. */
function facesAway(shape, n, eye) {
  if (index.kind !== "scenes") return false;
  let dot = 0;
  for (let axis = 0; axis < 3; axis++) {
    const i = axis * shape.count + n;
    dot += shape.normals[i] * (eye[axis] - shape.points[i]);
  }
  return dot < 0;
}

/** Return whether point n is hidden from the view beside the cloud. A frame of a scene sees too little
 * of it for that to be told by paleness. */
function isPale(shape, view, n) {
  return index.kind !== "scenes" && sees(shape, view, n) === false;
}

/** Draw the cloud. state: {layer, view, cameras, boxes, chosen}. */
function drawCloud(canvas, shape, state) {
  const { context, ratio, width, height } = fit(canvas, 1);
  const camera = orbitCamera(width, height);
  drawPoints(context, shape, state, camera, ratio);
  context.lineWidth = 1.3 * ratio;
  if (state.boxes)
    for (const { box, color } of boxesOf(shape, state.layer)) {
      context.strokeStyle = color;
      for (const [a, b] of boxEdges(box)) drawSegment(context, camera, a, b);
    }
  if (state.cameras)
    shape.cameras.forEach((each, view) => drawFrustum(context, camera, shape, view, state, ratio));
  if (state.chosen) {
    const [u, v, depth] = project(camera, state.chosen.position);
    if (depth > 0) drawRing(context, u, v, 8, false, ratio);
  }
}

function drawPoints(context, shape, state, camera, ratio) {
  const { width, height } = context.canvas;
  const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  const nearest = new Float32Array(width * height).fill(Infinity);
  pixels.fill(0xffffffff);
  const side = Math.max(2, Math.round(Math.min(7, Math.max(2.6, 240 / Math.sqrt(shape.count))) * ratio));
  const middle = Math.hypot(...camera.eye.map((value, axis) => value - orbit.center[axis]));
  for (let n = 0; n < shape.count; n++) {
    if (facesAway(shape, n, camera.eye)) continue;
    const [u, v, depth] = project(camera, pointAt(shape, n));
    if (depth < NEAR) continue;
    const color = state.layer === "depth"
      ? rampColor((depth - middle) / orbit.radius / 2 + 0.5)
      : pointColor(shape, state.layer, n);
    if (!color) continue;
    const pale = isPale(shape, state.view, n) ? 0.65 : 0;
    const [r, g, b] = color.map((value) => Math.round(value + pale * (235 - value)));
    const packed = (0xff000000 | b << 16 | g << 8 | r) >>> 0;
    const left = Math.round(u - side / 2), top = Math.round(v - side / 2);
    for (let y = Math.max(0, top); y < Math.min(height, top + side); y++)
      for (let x = Math.max(0, left); x < Math.min(width, left + side); x++)
        if (depth < nearest[y * width + x]) {
          nearest[y * width + x] = depth;
          pixels[y * width + x] = packed;
        }
  }
  context.putImageData(image, 0, 0);
}

function drawSegment(context, camera, a, b) {
  const ends = projectSegment(camera, a, b);
  if (!ends) return;
  context.beginPath();
  context.moveTo(ends[0][0], ends[0][1]);
  context.lineTo(ends[1][0], ends[1][1]);
  context.stroke();
}

/** Draw a camera as a pyramid with its number; those that see the chosen point in the ring's color. */
function drawFrustum(context, camera, shape, view, state, ratio) {
  const own = shape.cameras[view], apex = cameraCenter(own), { width, height } = shape;
  const far = 0.09 * orbit.radius;
  const corners = [[0, 0], [width, 0], [width, height], [0, height]].map(([u, v]) => unproject(own, u, v, far));
  const seen = inView(shape, view, state.chosen)?.where === "seen", active = view === state.view;
  context.strokeStyle = context.fillStyle = seen ? RING : active ? "#0b62c4" : "#7b8794";
  context.lineWidth = (active ? 2.4 : 1.2) * ratio;
  corners.forEach((corner, i) => {
    drawSegment(context, camera, apex, corner);
    drawSegment(context, camera, corner, corners[(i + 1) % 4]);
  });
  const [u, v, depth] = project(camera, apex);
  if (depth <= 0) return;
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  context.fillText(String(shape.views[view]), u + 4 * ratio, v - 4 * ratio);
  if (seen) {
    context.setLineDash([2 * ratio, 4 * ratio]);
    context.lineWidth = ratio;
    drawSegment(context, camera, apex, state.chosen.position);
    context.setLineDash([]);
  }
}

/** Return the point at (x, y) in page pixels of the canvas: the front one of those about as near as
 * the nearest; -1 if there is none. */
function pickPoint(canvas, shape, x, y) {
  const camera = orbitCamera(canvas.clientWidth, canvas.clientHeight), found = [];
  for (let n = 0; n < shape.count; n++) {
    if (facesAway(shape, n, camera.eye)) continue;
    const [u, v, depth] = project(camera, pointAt(shape, n)), distance = Math.hypot(u - x, v - y);
    if (depth > NEAR && distance < NEAREST_CLICK) found.push({ n, depth, distance });
  }
  const least = Math.min(...found.map((point) => point.distance));
  const front = found.filter((point) => point.distance <= least + 2).sort((a, b) => a.depth - b.depth);
  return front.length ? front[0].n : -1;
}
