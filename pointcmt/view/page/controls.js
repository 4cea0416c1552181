// Buttons, filters, keys, clicks and drags.

function layersOf(shape) {
  const has = {
    rgb: true, depth: true, ids: shape.ids, labels: shape.labels, normals: true, albedo: shape.images.albedo, parts: shape.part,
    predicted: shape.labeling || shape.found, features: shape.feature_color, matches: shape.matching,
  };
  return Object.keys(has).filter((layer) => has[layer]);
}

function makeLayers() {
  const layers = layersOf(state.shape);
  if (!layers.includes(state.layer)) state.layer = "rgb";
  $("layers").replaceChildren(...layers.map((layer, i) => {
    const button = document.createElement("button");
    button.textContent = layer;
    button.title = `Layer ${layer} (${i + 1})`;
    button.onclick = () => setLayer(layer);
    return button;
  }));
}

function setLayer(layer) {
  state.layer = layer;
  render();
  writeAddress();
}

function makeViews() {
  $("views").replaceChildren(...state.shape.cameras.map((_, view) => {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", viewName(view));
    canvas.onclick = (event) => clickView(canvas, view, event);
    figure.append(canvas, document.createElement("figcaption"));
    return figure;
  }));
}

function clickView(canvas, view, event) {
  const scale = state.shape.width / canvas.clientWidth, box = canvas.getBoundingClientRect();
  const [column, row] = [event.clientX - box.left, event.clientY - box.top].map((at) => Math.floor(at * scale));
  choosePixel(view, Math.min(column, state.shape.width - 1), Math.min(row, state.shape.height - 1));
}

function step(count) {
  if (shown.length) showShape(shown[(shown.indexOf(state.place) + count + shown.length) % shown.length]);
}

function stepView(count) {
  const { length } = state.shape.views;
  if (!length) return;
  state.view = (state.view + count + length) % length;
  render();
  writeAddress();
}

function toggle(name) {
  state[name] = !state[name];
  if (name === "cameras") frameCloud(state.shape, state.cameras);
  render();
}

function zoom(factor) {
  orbit.zoom = Math.min(12, Math.max(0.3, orbit.zoom * factor));
  render();
}

const FILTERS = {
  class: (line) => line.class ?? "(unknown)",
  split: (line) => line.split,
  predicted: (line) => line.predicted?.[0][0] ?? [],
  confused: (line) => Object.keys(line.confused ?? {}),
  state: (line) => [
    line.state,
    ...(line.notes.length ? ["noted"] : []),
    ...(typeof line.right === "boolean" ? [line.right ? "right" : "wrong"] : []),
  ],
};

function makeFilters() {
  for (const [name, valuesOf] of Object.entries(FILTERS)) {
    const every = index.shapes.flatMap(valuesOf), counts = new Map();
    for (const value of every) counts.set(value, (counts.get(value) ?? 0) + 1);
    const values = [...counts.keys()], confused = name === "confused";
    if (confused) values.sort((a, b) => counts.get(b) - counts.get(a));
    const text = (value) => (confused ? `${value} (${counts.get(value)})` : value);
    $(name).replaceChildren(new Option(confused ? "any confusion" : `any ${name}`, ""), ...values.map((value) => new Option(text(value), value)));
    $(name).hidden = values.length < (confused ? 1 : 2);
    $(name).onchange = filter;
  }
  $("search").oninput = filter;
  $("filters").onsubmit = (event) => event.preventDefault();
}

function clearFilters() {
  for (const name of ["search", ...Object.keys(FILTERS)]) $(name).value = "";
  fillShapes();
}

function fillShapes() {
  const wanted = Object.keys(FILTERS).map((name) => [FILTERS[name], $(name).value]).filter(([, value]) => value);
  const text = $("search").value.toLowerCase();
  shown = [...index.shapes.keys()].filter((place) => {
    const line = index.shapes[place];
    return line.id.toLowerCase().includes(text) && wanted.every(([valuesOf, value]) => [valuesOf(line)].flat().includes(value));
  });
  const confused = $("confused").value; // the worst first
  if (confused) shown.sort((a, b) => index.shapes[b].confused[confused] - index.shapes[a].confused[confused]);
  const mark = { failed: " ✗", pending: " …" };
  const share = ({ share }) => (share === undefined ? "" : ` · ${percent(share)}`);
  $("shape").replaceChildren(...shown.map((place) =>
    new Option(`${index.shapes[place].id}${mark[index.shapes[place].state] ?? ""}${share(index.shapes[place])}`, String(place))));
  $("count").textContent = `${shown.length} of ${index.shapes.length}`;
}

function filter() {
  fillShapes();
  if (shown.includes(state.place)) $("shape").value = String(state.place);
  else showShape(shown[0] ?? -1);
}

const KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  j: () => stepView(1),
  k: () => stepView(-1),
  ",": () => choosePoint(((state.chosen?.point ?? 0) - 1 + state.shape.count) % state.shape.count),
  ".": () => choosePoint(((state.chosen?.point ?? -1) + 1) % state.shape.count),
  c: () => toggle("cameras"),
  b: () => toggle("boxes"),
  " ": () => toggle("turning"),
  "+": () => zoom(1.25),
  "-": () => zoom(0.8),
  0: () => zoom(1 / orbit.zoom),
  Escape: () => choose(null, state.view),
};

function pressKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|SUMMARY/.test(event.target.tagName)) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return;
  const layer = layersOf(state.shape ?? { images: {} })[event.key - 1];
  const action = layer && state.shape ? () => setLayer(layer) : KEYS[event.key];
  if (!action || (!state.shape && !event.key.startsWith("Arrow"))) return;
  event.preventDefault();
  action();
}

/** Drag to turn, scroll to zoom, click to choose a point. */
function listenToCloud(canvas) {
  let start = null;
  canvas.onpointerdown = (event) => {
    start = { x: event.clientX, y: event.clientY, yaw: orbit.yaw, pitch: orbit.pitch, moved: false };
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = (event) => {
    if (!start) return;
    const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
    start.moved ||= Math.hypot(dx, dy) > 4;
    if (!start.moved) return;
    state.turning = false;
    orbit.yaw = start.yaw - dx * 0.01;
    orbit.pitch = Math.min(1.55, Math.max(-1.55, start.pitch + dy * 0.01));
    render();
  };
  canvas.onpointercancel = () => { start = null; };
  canvas.onpointerup = (event) => {
    const box = canvas.getBoundingClientRect(), moved = start?.moved;
    start = null;
    if (!moved && state.shape) choosePoint(pickPoint(canvas, state.shape, event.clientX - box.left, event.clientY - box.top));
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0015));
  }, { passive: false });
}

const TURN_SPEED = 0.0004; // radians per millisecond
function turn(now, before = now) {
  if (state.turning && state.shape && !document.hidden) {
    orbit.yaw += TURN_SPEED * (now - before);
    drawClouds();
  }
  requestAnimationFrame((next) => turn(next, now));
}

