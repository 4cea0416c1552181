// What is shown, and what clicks, keys and the address change.

const $ = (id) => document.getElementById(id);
const state = { place: -1, shape: null, view: 0, layer: "rgb", cameras: false, boxes: true, turning: true, chosen: null };
let shown = []; // places of the shapes that the filters leave
let addressed = null; // the last address that this page has set

// Choose.

/** Choose what is at a pixel of a view: the nearest point that it sees, else the surface. */
function choosePixel(view, column, row) {
  const { shape } = state;
  const radius = Math.max(2, shape.width / 64);
  const point = nearestPoint(shape, view, column + 0.5, row + 0.5, radius);
  const depth = depthAt(shape, view, column, row);
  if (point >= 0) return choosePoint(point, view);
  const position = depth ? unproject(shape.cameras[view], column + 0.5, row + 0.5, depth) : null;
  choose(position && { point: -1, position, pixel: [column, row], depth }, view);
}

function choosePoint(point, view = state.view) {
  choose(point < 0 ? null : { point, position: pointAt(state.shape, point) }, view);
}

function choose(chosen, view) {
  state.chosen = chosen;
  state.view = view;
  if (chosen) state.turning = false;
  render();
  writeAddress();
}

/** Show the shape at a place of the index; then choose what an address names. */
async function showShape(place, address = null) {
  const line = index.shapes[place];
  state.place = place;
  state.shape = state.chosen = null;
  $("shape").value = String(place);
  say(line ? "Loading …" : "No shape fits the filters.");
  $("content").hidden = true;
  if (!line) return;
  if (line.state !== "done") {
    say(line.state === "failed" ? `${line.id} failed (${line.reason})\n${line.detail}` : `${line.id} is not rendered yet.`);
    writeAddress();
    return;
  }
  try {
    const shape = await loadShape(place);
    if (state.place !== place) return; // another one was asked for meanwhile
    state.shape = shape;
  } catch (error) {
    say(`${line.id} cannot be shown: ${error.message}`);
    return;
  }
  const reason = line.reason ? `no correspondences (${line.reason}): ${line.detail}` : "this store has no correspondences yet: run `pointcmt build-correspondences`";
  say(state.shape.visible ? "" : `${line.id}: ${reason}`);
  $("content").hidden = false;
  state.view = Math.max(0, Math.min(state.view, state.shape.views.length - 1));
  frameCloud(state.shape, state.cameras);
  makeLayers();
  makeViews();
  if (address) followAddress(address);
  render();
  writeAddress();
}

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

// The address: #shape=ID&view=V&point=N, or &pixel=COLUMN,ROW for the surface.

function writeAddress() {
  const { place, shape, chosen, view, layer } = state;
  const address = new URLSearchParams({ shape: index.shapes[place]?.id ?? "" });
  if (shape?.views.length) address.set("view", shape.views[view]);
  if (chosen?.point >= 0) address.set("point", chosen.point);
  else if (chosen) address.set("pixel", chosen.pixel.join());
  if (layer !== "rgb") address.set("layer", layer);
  addressed = `#${address}`;
  history.replaceState(null, "", addressed);
}

function readAddress() {
  if (location.hash === addressed) return;
  const address = new URLSearchParams(location.hash.slice(1));
  const place = index.shapes.findIndex((line) => line.id === address.get("shape"));
  if (place >= 0 && !shown.includes(place)) clearFilters();
  showShape(place >= 0 ? place : shown[0] ?? -1, address);
}

function followAddress(address) {
  const { shape } = state, integer = (text) => (/^\d+$/.test(text ?? "") ? Number(text) : -1);
  const number = (name) => integer(address.get(name));
  const view = Math.max(0, shape.views.indexOf(number("view"))), point = number("point");
  const [column, row] = (address.get("pixel") ?? "").split(",").map(integer);
  if (layersOf(shape).includes(address.get("layer"))) state.layer = address.get("layer");
  state.view = view;
  if (point >= 0 && point < shape.count) choosePoint(point, view);
  else if (shape.views.length && column >= 0 && column < shape.width && row >= 0 && row < shape.height) choosePixel(view, column, row);
}

// Draw.

function render() {
  const { shape, view } = state;
  if (!shape) return;
  const hasViews = shape.views.length > 0; // rooms may have none
  document.querySelector(".large").hidden = !hasViews;
  if (hasViews) drawView($("large"), shape, view, state, 10);
  document.querySelectorAll("#views figure").forEach((figure, each) => {
    const where = inView(shape, each, state.chosen)?.where ?? "";
    drawView(figure.querySelector("canvas"), shape, each, state, 6);
    figure.className = `${each === view ? "active" : ""} ${where === "seen" ? "sees" : ""}`;
    figure.querySelector("figcaption").textContent = `${viewName(each)}${where && ` · ${where}`}`;
  });
  drawCloud($("cloud"), shape, state);
  for (const name of ["cameras", "boxes"]) $(name).setAttribute("aria-pressed", String(state[name]));
  $("turn").setAttribute("aria-pressed", String(state.turning));
  $("boxes").hidden = !shape.boxes;
  document.querySelectorAll("#layers button").forEach((button) =>
    button.setAttribute("aria-pressed", String(button.textContent === state.layer)));
  $("large-caption").textContent = `${viewName(view)} · ${visibleIn() || "click a pixel"}`;
  const pale = shape.visible && index.kind !== "scenes";
  $("cloud-caption").textContent = pale ? `pale: hidden from ${viewName(view)}` : "drag to turn, scroll to zoom";
  $("large").setAttribute("aria-label", `${viewName(view)}. Click to choose a point.`);
  writeFacts();
}

function viewName(view) {
  return `view ${state.shape.views[view]}`;
}

/** Return in how many views the chosen point is visible, in words; "" if that is not known. */
function visibleIn() {
  const { shape, chosen } = state;
  if (!chosen || !shape.views.length) return "";
  const where = shape.cameras.map((_, view) => inView(shape, view, chosen).where);
  const count = where.filter((each) => each === "seen").length;
  return where.includes("unknown") ? "" : `visible in ${count} of ${where.length} views`;
}

function writeFacts() {
  const { shape, chosen, place } = state, line = index.shapes[place], facts = [];
  const add = (name, value, kind = "") => value !== null && value !== undefined && facts.push([name, String(value), kind]);
  if (chosen) {
    add("visible", visibleIn().replace("visible ", "") || null, "seen");
    add("position", chosen.position.map((value) => value.toFixed(4)).join("  "));
    addPoint(shape, chosen, line, add);
    if (shape.views.length) {
      const [u, v, depth] = project(shape.cameras[state.view], chosen.position);
      add(`in view ${shape.views[state.view]}`, `(${u.toFixed(2)}, ${v.toFixed(2)}), depth ${depth.toFixed(4)}`);
    }
  }
  add("shape", line.id);
  add("class", line.class ?? "unknown");
  add("split", line.split);
  add("frame", shape.frame?.[state.view]);
  add("views", shape.views.length < shape.stored_views ? `${shape.views.length} of ${shape.stored_views}` : shape.stored_views);
  add("points", shape.count < shape.stored_points ? `the first ${shape.count} of ${shape.stored_points}` : shape.count);
  line.notes.forEach((note) => add("note", note));
  $("heading").textContent = !chosen ? "No point chosen" : chosen.point >= 0 ? `Point ${chosen.point}` : "Surface (no stored point is near)";
  $("facts").replaceChildren(...facts.flatMap(([name, value, kind]) => {
    const term = document.createElement("dt"), fact = document.createElement("dd");
    term.textContent = name;
    fact.textContent = value;
    fact.className = kind;
    return [term, fact];
  }));
}

/** Add what is stored for a point, or for the pixel that shows a surface. */
function addPoint(shape, chosen, line, add) {
  const n = chosen.point, named = (names, label) => label < 0 ? "unlabeled" : `${names?.[label] ?? "?"} (${label})`;
  if (n < 0) {
    const [column, row] = chosen.pixel, i = (state.view * shape.height + row) * shape.width + column;
    add("pixel", `column ${column}, row ${row}`);
    if (shape.ids) add(index.kind === "scenes" ? "instance" : "face", shape.ids[i] < 0 ? "none" : shape.ids[i]);
    if (shape.labels) add("label", named(index.semantic_names, shape.labels[i]));
    return;
  }
  add("face", shape.point_face?.[n]);
  if (shape.part) add("part", named(index.part_names[line.class], shape.part[n]));
  if (shape.semantic) add("label", named(index.semantic_names, shape.semantic[n]));
  if (shape.instance) add("instance", shape.instance[n] < 0 ? "none" : shape.instance[n]);
}

// Controls.

function layersOf(shape) {
  const has = { rgb: true, depth: true, ids: shape.ids, labels: shape.labels, normals: true, albedo: shape.images.albedo };
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
  state: (line) => [line.state, ...(line.notes.length ? ["noted"] : [])],
};

function makeFilters() {
  for (const [name, valuesOf] of Object.entries(FILTERS)) {
    const values = [...new Set(index.shapes.flatMap(valuesOf))];
    $(name).replaceChildren(new Option(`any ${name}`, ""), ...values.map((value) => new Option(value, value)));
    $(name).hidden = values.length < 2;
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
  const mark = { failed: " ✗", pending: " …" };
  $("shape").replaceChildren(...shown.map((place) =>
    new Option(`${index.shapes[place].id}${mark[index.shapes[place].state] ?? ""}`, String(place))));
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
    drawCloud($("cloud"), state.shape, state);
  }
  requestAnimationFrame((next) => turn(next, now));
}

function start() {
  $("title").textContent = index.name;
  $("title").title = `License: ${index.license}`;
  state.cameras = index.kind === "scenes";
  state.turning = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  makeFilters();
  fillShapes();
  $("previous").onclick = () => step(-1);
  $("next").onclick = () => step(1);
  $("shape").onchange = () => showShape(Number($("shape").value));
  $("cameras").onclick = () => toggle("cameras");
  $("boxes").onclick = () => toggle("boxes");
  $("turn").onclick = () => toggle("turning");
  $("large").onclick = (event) => clickView($("large"), state.view, event);
  listenToCloud($("cloud"));
  addEventListener("keydown", pressKey);
  addEventListener("hashchange", readAddress);
  addEventListener("resize", render);
  readAddress();
  requestAnimationFrame(turn);
}

start();
