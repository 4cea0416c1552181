// The facts beside the views.

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
  addRun(shape, line, state, add);
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
  if (shape.labeling) addLabel(shape, n, add);
  if (shape.instance) add("instance", shape.instance[n] < 0 ? "none" : shape.instance[n]);
}

