// The index in the page, and shapes: in the page too, or in files beside it that are loaded when
// they are asked for.

const index = JSON.parse(document.getElementById("index").textContent);
const KEPT = 6; // decoded shapes in memory
const loaded = new Map(); // place in the index → promise of a shape
const waiting = new Map();

/** The files of shapes call this. */
function pointcmtShape(place, data) {
  waiting.get(place)?.(data);
}

function shapeData(place) {
  const inline = document.getElementById(`shape-${place}`);
  if (inline) return Promise.resolve(JSON.parse(inline.textContent));
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const file = `shape-${String(place).padStart(6, "0")}.js`;
    waiting.set(place, (data) => {
      script.remove();
      if (data.error) reject(new Error(data.error));
      else resolve(data);
    });
    script.onerror = () => reject(new Error(`${file} is missing beside this page or cannot be read`));
    script.src = file;
    document.head.append(script);
  });
}

/** Return a promise of a shape; the last few are kept. */
function loadShape(place) {
  const shape = loaded.get(place) ?? shapeData(place).then(decodeShape);
  loaded.delete(place);
  loaded.set(place, shape);
  shape.catch(() => loaded.delete(place));
  if (loaded.size > KEPT) loaded.delete(loaded.keys().next().value);
  return shape;
}

const ARRAYS = { u1: Uint8Array, i1: Int8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array };

/** Return a packed array's values: the inverse of `pack` in pointcmt/view/packing.py. */
async function unpack(packed) {
  if (!packed) return null;
  const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const Type = ARRAYS[packed.dtype], size = Type.BYTES_PER_ELEMENT, count = planes.length / size;
  const raw = new Uint8Array(planes.length);
  for (let plane = 0; plane < size; plane++)
    for (let i = 0; i < count; i++) raw[i * size + plane] = planes[plane * count + i];
  const values = new Type(raw.buffer);
  if (packed.smooth)
    for (let i = 0; i < count; i++) if (i % packed.width) values[i] += values[i - 1];
  return values;
}

async function unpackPoints(packed) {
  const steps = await unpack(packed), count = packed.width, points = new Float64Array(3 * count);
  for (let axis = 0; axis < 3; axis++)
    for (let n = 0; n < count; n++)
      points[axis * count + n] = packed.low[axis] + packed.step[axis] * steps[axis * count + n];
  return points;
}

/** Return an object of a shape with some of its entries unpacked; null if there is none. */
async function unpackWithin(data, names) {
  if (!data) return null;
  const arrays = await Promise.all(names.map((name) => unpack(data[name])));
  return { ...data, ...Object.fromEntries(names.map((name, i) => [name, arrays[i]])) };
}

async function decodeImage(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

async function decodeShape(data) {
  const names = ["normals", "depth", "visible", "color", "ids", "labels", "point_face", "part", "semantic", "instance", "feature_color"];
  const arrays = await Promise.all(names.map((name) => unpack(data[name])));
  const [labeling, matching] = await Promise.all([
    unpackWithin(data.labeling, ["predicted", "true"]),
    unpackWithin(data.matching, ["valid", "true", "predicted"]),
  ]);
  const layers = Object.entries(data.images);
  const images = await Promise.all(layers.map(([, uris]) => Promise.all(uris.map(decodeImage))));
  return {
    ...data, // views, frame, boxes, box_label, found
    ...Object.fromEntries(names.map((name, i) => [name, arrays[i]])),
    labeling,
    matching,
    images: Object.fromEntries(layers.map(([name], i) => [name, images[i]])),
    points: await unpackPoints(data.points),
    count: data.points.width,
    cameras: data.K.map((K, view) => ({ K, pose: data.world_to_camera[view] })),
    width: index.width,
    height: index.height,
    depthScale: index.depth_scale,
    drawn: new Map(), // images made from arrays, by layer and view
  };
}
