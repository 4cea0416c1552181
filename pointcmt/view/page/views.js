// Views: their images, boxes, and a ring around the chosen point, solid where it is seen.

const RING = "#e6007e", HALO = "#ffffff";

/** Fit a canvas to its place on the page, in device pixels; return its context and the scale. */
function fit(canvas, aspect) {
  const ratio = window.devicePixelRatio || 1, wide = canvas.clientWidth || 100;
  const width = Math.round(wide * ratio), height = Math.round(wide / aspect * ratio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  return { context: canvas.getContext("2d"), ratio, width, height };
}

/** Draw a ring at (x, y): solid, or dashed for a hidden point. unit: a pixel of the page. */
function drawRing(context, x, y, radius, dashed, unit) {
  for (const [color, width] of [[HALO, 4.5], [RING, 2.2]]) {
    context.setLineDash(dashed && color === RING ? [3.5 * unit, 3 * unit] : []);
    context.strokeStyle = color;
    context.lineWidth = width * unit;
    context.beginPath();
    context.arc(x, y, radius * unit, 0, 2 * Math.PI);
    context.stroke();
  }
  context.setLineDash([]);
  context.fillStyle = RING;
  context.beginPath();
  context.arc(x, y, 1.4 * unit, 0, 2 * Math.PI);
  context.fill();
}

/** Return what a view shows of the chosen point: {u, v, seen} and where: "seen", "hidden",
 * "outside" or, without correspondences, "unknown". null without a point. */
function inView(shape, view, chosen) {
  if (!chosen) return null;
  const [u, v, depth] = project(shape.cameras[view], chosen.position);
  const inside = depth > 0 && u >= 0 && v >= 0 && u < shape.width && v < shape.height;
  const seen = chosen.point >= 0 ? sees(shape, view, chosen.point) : showsSurface(shape, view, chosen.position);
  const where = !inside ? "outside" : seen === null ? "unknown" : seen ? "seen" : "hidden";
  return { u, v, where };
}

/** Draw a view. state: {layer, boxes, chosen}. radius: of the ring. named: with the names of boxes. */
function drawView(canvas, shape, view, state, radius, named = false) {
  const { context, ratio, width, height } = fit(canvas, shape.width / shape.height);
  const scale = width / shape.width;
  context.imageSmoothingEnabled = scale < 1;
  context.drawImage(layerImage(shape, state.layer, view), 0, 0, width, height);
  if (state.boxes) {
    const boxes = boxesOf(shape, state.layer);
    for (const { box, color } of boxes) {
      context.strokeStyle = color;
      context.lineWidth = 1.3 * ratio;
      for (const [a, b] of boxEdges(box)) {
        const ends = projectSegment(shape.cameras[view], a, b);
        if (!ends) continue;
        context.beginPath();
        context.moveTo(ends[0][0] * scale, ends[0][1] * scale);
        context.lineTo(ends[1][0] * scale, ends[1][1] * scale);
        context.stroke();
      }
    }
    const place = (point) => {
      const [u, v, depth] = project(shape.cameras[view], point);
      return depth > NEAR && [u * scale, v * scale];
    };
    if (named) nameBoxes(context, boxes, place, ratio);
  }
  const found = inView(shape, view, state.chosen);
  if (found && found.where !== "outside")
    drawRing(context, found.u * scale, found.v * scale, radius, found.where !== "seen", ratio);
}
