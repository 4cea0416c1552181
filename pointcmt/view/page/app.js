// What is shown: the shape, the chosen point, and the address that names them.

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

/** Draw the cloud and, where a run is compared to the truth, the second one beside it. */
function drawClouds() {
  const { shape } = state, beside = besideOf(shape, state);
  drawCloud($("cloud"), shape, state);
  if (beside?.twin) drawCloud($("twin"), shape, { ...state, layer: beside.layer });
}

/** Arrange the stage, and draw the large view with what stands beside it. */
function drawLarge() {
  const { shape, view, layer } = state, hasViews = shape.views.length > 0; // rooms may have none
  const beside = besideOf(shape, state), matches = layer === "matches";
  document.querySelector(".large").hidden = !hasViews;
  document.querySelector(".other").hidden = !hasViews || !beside;
  document.querySelector(".twin").hidden = !beside?.twin;
  $("stage").className = !beside ? "" : beside.twin ? "twinned" : "paired";
  if (!hasViews) return;
  drawView($("large"), shape, view, state, 10, true);
  if (matches) drawMatches($("large"), shape, view, state.chosen, false);
  if (!beside) return;
  drawView($("other"), shape, beside.view, { ...state, layer: beside.layer }, 10, true);
  if (matches) drawMatches($("other"), shape, view, state.chosen, true);
}

function render() {
  const { shape, view } = state;
  if (!shape) return;
  drawLarge();
  document.querySelectorAll("#views figure").forEach((figure, each) => {
    const where = inView(shape, each, state.chosen)?.where ?? "";
    drawView(figure.querySelector("canvas"), shape, each, state, 6);
    figure.className = `${each === view ? "active" : ""} ${where === "seen" ? "sees" : ""}`;
    figure.querySelector("figcaption").textContent = `${viewName(each)}${where && ` · ${where}`}`;
  });
  drawClouds();
  for (const name of ["cameras", "boxes"]) $(name).setAttribute("aria-pressed", String(state[name]));
  $("turn").setAttribute("aria-pressed", String(state.turning));
  $("boxes").hidden = !shape.boxes && !shape.found;
  document.querySelectorAll("#layers button").forEach((button) =>
    button.setAttribute("aria-pressed", String(button.textContent === state.layer)));
  const beside = besideOf(shape, state), predicts = beside?.twin ? "predicted · " : "";
  $("large-caption").textContent = `${predicts}${viewName(view)} · ${visibleIn() || "click a pixel"}`;
  if (beside) $("other-caption").textContent = `${beside.twin ? "true · " : ""}${viewName(beside.view)}`;
  const pale = shape.visible && index.kind !== "scenes";
  $("cloud-caption").textContent = predicts + (pale ? `pale: hidden from ${viewName(view)}` : "drag to turn, scroll to zoom");
  $("large").setAttribute("aria-label", `${viewName(view)}. Click to choose a point.`);
  writeLegend(shape, index.shapes[state.place], state.layer);
  writeFacts();
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
  $("other").onclick = (event) => clickView($("other"), besideOf(state.shape, state).view, event);
  listenToCloud($("cloud"));
  listenToCloud($("twin"));
  addEventListener("keydown", pressKey);
  addEventListener("hashchange", readAddress);
  addEventListener("resize", render);
  readAddress();
  requestAnimationFrame(turn);
}

start();
