// What a run adds: predictions beside the truth, boxes, and matches between two views.

const TRUE_MATCH = "#0b62c4", PREDICTED_MATCH = "#d9480f";
const MOST_MATCHES = 60; // drawn while none is chosen, evenly taken
const FEW_BOXES = 12; // whose names are written beside them
const NEAR_TOKEN = 1.5; // distances between tokens, in which a match belongs to a chosen pixel

/** Return the color of a label of the run. */
function runColor(label) {
  return label < 0 ? UNKNOWN : index.run_palette?.[label] ?? idColor(label);
}

/** Return what stands beside the large view, {view, layer, twin, captions}; null if nothing does.
 * twin: whether the cloud has a second one beside it, too. */
function besideOf(shape, { layer, view }) {
  if (layer === "predicted" && (shape.labeling?.true || (shape.found && shape.boxes)))
    return { view, layer: "truth", twin: true };
  const partner = layer === "matches" ? shape.matching.partner[view] : -1;
  return partner >= 0 ? { view: partner, layer: "rgb", twin: false } : null;
}

/** Return the boxes of a layer: [{box, color, text}]. */
function boxesOf(shape, layer) {
  if (layer === "predicted" && shape.found) {
    const { boxes, label, score } = shape.found;
    return boxes.map((box, i) => {
      const name = index.run_names[label[i]];
      return { box, color: namedColor(name, label[i]), text: `${name} ${score[i].toFixed(2)}` };
    });
  }
  return (shape.boxes ?? []).map((box, i) => {
    const label = shape.box_label[i], name = index.box_names[label];
    return { box, color: label < 0 ? rgbOf(UNKNOWN) : namedColor(name, label), text: name ?? "" };
  });
}

/** Return the color of a class of boxes: that of the points' class of this name, if there is one. */
function namedColor(name, label) {
  return rgbOf(index.palette[index.semantic_names.indexOf(name)] ?? idColor(label));
}

function rgbOf(color) {
  return `rgb(${color.map(Math.round).join()})`;
}

/** Write the names of boxes at their upper edges. project: world point → [u, v] in the canvas. */
function nameBoxes(context, boxes, place, ratio) {
  if (boxes.length > FEW_BOXES) return;
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  context.lineWidth = 3 * ratio;
  context.strokeStyle = HALO;
  for (const { box, color, text } of boxes) {
    const at = place([box[0], box[1], box[2] + box[5] / 2]);
    if (!at) continue;
    context.strokeText(text, ...at);
    context.fillStyle = color;
    context.fillText(text, ...at);
  }
}

// Matches.

/** Return the tokens of a view that have a match, [{u, v, true: [u, v], predicted: [u, v]}]. */
function matchesOf(shape, view) {
  const { u, v, valid, partner } = shape.matching, tokens = u.length * v.length, found = [];
  if (partner[view] < 0) return found;
  const at = (array, i) => [array[2 * i] / 100, array[2 * i + 1] / 100];
  for (let token = 0; token < tokens; token++) {
    const i = view * tokens + token;
    if (valid[i])
      found.push({
        u: u[token % u.length],
        v: v[Math.floor(token / u.length)],
        true: at(shape.matching.true, i),
        predicted: at(shape.matching.predicted, i),
      });
  }
  return found;
}

function offBy(match) {
  return Math.hypot(match.true[0] - match.predicted[0], match.true[1] - match.predicted[1]);
}

/** Return the match nearest to the chosen point in a view; null if none is near. */
function chosenMatch(shape, view, chosen) {
  if (!chosen || !shape.matching) return null;
  const [u, v] = project(shape.cameras[view], chosen.position), { matching, width, height } = shape;
  const far = NEAR_TOKEN * Math.max(width / matching.u.length, height / matching.v.length);
  const away = (match) => Math.hypot(match.u - u, match.v - v);
  const nearest = matchesOf(shape, view).sort((a, b) => away(a) - away(b))[0];
  return nearest && away(nearest) <= far ? nearest : null;
}

/** Draw a view's matches on the view itself, or (there) on its partner: dots are true, crosses
 * predicted. The chosen one stands out. */
function drawMatches(canvas, shape, view, chosen, there) {
  const context = canvas.getContext("2d"), scale = canvas.width / shape.width;
  const ratio = window.devicePixelRatio || 1, one = chosenMatch(shape, view, chosen);
  const all = matchesOf(shape, view), every = one ? 1 : Math.ceil(all.length / MOST_MATCHES);
  for (const match of all.filter((_, i) => i % every === 0)) {
    const strong = !one || (one.u === match.u && one.v === match.v);
    context.globalAlpha = strong ? 1 : 0.25;
    const [x, y] = (there ? match.true : [match.u, match.v]).map((value) => value * scale);
    if (there) drawGuess(context, [x, y], match.predicted.map((value) => value * scale), ratio);
    context.fillStyle = TRUE_MATCH;
    context.beginPath();
    context.arc(x, y, (one && strong ? 4.5 : 2.2) * ratio, 0, 2 * Math.PI);
    context.fill();
  }
  context.globalAlpha = 1;
}

function drawGuess(context, [x, y], [a, b], ratio) {
  const arm = 3.5 * ratio;
  context.strokeStyle = PREDICTED_MATCH;
  context.lineWidth = 1.4 * ratio;
  context.beginPath();
  for (const [from, to] of [[[x, y], [a, b]], [[a - arm, b - arm], [a + arm, b + arm]], [[a - arm, b + arm], [a + arm, b - arm]]]) {
    context.moveTo(...from);
    context.lineTo(...to);
  }
  context.stroke();
}

// Words.

const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** Add what the run says about the shape as a whole, and about the chosen point. */
function addRun(shape, line, { view, layer, chosen }, add) {
  if (line.predicted) {
    const verdict = line.right === true ? "right" : line.right === false ? "wrong" : "";
    add("predicted", line.predicted.map(([name, score]) => `${name} ${percent(score)}`).join(", "), verdict);
  }
  if (line.share !== undefined) add("right", `${percent(line.share)} of the labeled points`);
  if (shape.found) add("boxes", `${shape.found.boxes.length} predicted${shape.boxes ? `, ${shape.boxes.length} true` : ""}`);
  const unit = index.segments ? " points" : "";
  if (!line.predicted) Object.entries(line.confused ?? {}).slice(0, 4).forEach(([name, count]) => add("confused", `${name}: ${count}${unit}`));
  if (layer === "matches") addMatches(shape, view, chosen, add);
}

/** Add what the run predicts for a stored point. */
function addLabel(shape, n, add) {
  const { names, predicted, true: truth } = shape.labeling;
  if (n >= predicted.length) return add("predicted", "nothing: the run reads fewer points");
  const known = truth && truth[n] >= 0;
  add("predicted", names[predicted[n]], known ? (truth[n] === predicted[n] ? "right" : "wrong") : "");
}

function addMatches(shape, view, chosen, add) {
  const found = matchesOf(shape, view), one = chosenMatch(shape, view, chosen);
  const there = shape.matching.partner[view], at = ([u, v]) => `(${u.toFixed(1)}, ${v.toFixed(1)})`;
  if (!found.length) return add("matches", "none: no other view shows the same surface");
  const other = `view ${shape.views[there]}`;
  if (one) {
    add("match", `${at([one.u, one.v])} in ${viewName(view)}`);
    add("true", `${at(one.true)} in ${other}`);
    add("predicted", `${at(one.predicted)} in ${other}`);
    return add("off by", `${offBy(one).toFixed(1)} pixels`);
  }
  const mean = found.reduce((sum, match) => sum + offBy(match), 0) / found.length;
  add("matches", `${found.length} in ${other}, off by ${mean.toFixed(1)} pixels on average`);
}

const legends = new WeakMap(); // shape → layer → legend: finding one takes all pixels of all views

/** Return the names and colors of what a layer shows of a shape: [[name, color]]. */
function legendOf(shape, line, layer) {
  if (!legends.has(shape)) legends.set(shape, new Map());
  const known = legends.get(shape);
  if (!known.has(layer)) known.set(layer, findLegend(shape, line, layer));
  return known.get(layer);
}

function findLegend(shape, line, layer) {
  const present = (...arrays) => [...new Set(arrays.flatMap((array) => (array ? [...new Set(array)] : [])))].filter((label) => label >= 0).sort((a, b) => a - b);
  if (layer === "predicted" && shape.labeling) {
    const { names, predicted, true: truth } = shape.labeling;
    return present(predicted, truth).map((label) => [names[label], runColor(label)]);
  }
  if (layer === "parts") return present(shape.part).map((part) => [index.part_names[line.class]?.[part] ?? `part ${part}`, idColor(part)]);
  if (layer === "labels") return present(shape.labels, shape.semantic).map((label) => [index.semantic_names[label] ?? `label ${label}`, labelColor(label)]);
  if (layer === "matches") return [["true", [11, 98, 196]], ["predicted", [217, 72, 15]]];
  return [];
}

function writeLegend(shape, line, layer) {
  $("legend").replaceChildren(...legendOf(shape, line, layer).map(([name, color]) => {
    const item = document.createElement("li"), swatch = document.createElement("canvas");
    swatch.width = swatch.height = 1;
    swatch.getContext("2d").fillStyle = rgbOf(color);
    swatch.getContext("2d").fillRect(0, 0, 1, 1);
    item.append(swatch, name);
    return item;
  }));
}
