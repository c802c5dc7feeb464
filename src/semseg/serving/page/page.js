// The page: what people do, and what they are shown.

import { CONFIDENCE, Refusal, ask, decode, info } from "/page/prediction.js";
import { storedPixels } from "/page/stored.js";
import { View } from "/page/view.js";

const element = (id) => document.getElementById(id);
const view = new View(element("layers"), element("image"), element("mask"), element("cross"));
const state = { file: null, model: null, turn: 0, again: null };
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 && share > 0 ? 1 : 0)} %`;
const nameOf = (id) => state.model?.classes?.[id] ?? `class ${id}`;
const colourOf = (id) => state.model?.colors?.[id] ?? "#000000";
const say = (text) => { element("status").textContent = text; };

// The model

async function showModel() {
  try {
    state.model = await info();
  } catch (refusal) {
    element("model").textContent = refusal.message;
    if (refusal.busy) setTimeout(showModel, 1000 * Math.max(1, refusal.wait));
    return;
  }
  const { algorithm, backbone, num_classes: count, engine, precision, version } = state.model;
  const network = `${algorithm} on ${backbone}`;
  element("model").textContent = `${network}, ${count} classes. semseg-container ${version}`;
  element("network").textContent = network;
  element("classes").textContent = count;
  element("engine").textContent = engine;
  element("precision").textContent = precision;
}

// An image and its prediction

async function open(file) {
  const turn = ++state.turn;
  state.file = file;
  tell(null);
  busy(true);
  try {
    const shown = showImage(file, turn);
    const begin = performance.now();
    const response = await ask(file, CONFIDENCE);
    const prediction = decode(await response.arrayBuffer());
    const seconds = (performance.now() - begin) / 1000;
    await shown;
    if (turn !== state.turn) return;
    if (!state.model) await showModel();
    showPrediction(prediction, seconds);
  } catch (failure) {
    if (turn === state.turn) tell(failure, () => open(file));
  } finally {
    if (turn === state.turn) busy(false);
  }
}

async function showImage(file, turn) {
  let bitmap;
  try {
    bitmap = await storedPixels(file);
  } catch {
    bitmap = null; // the server says what is wrong with the file
  }
  if (turn !== state.turn) return;
  for (const id of ["result", "saves"]) element(id).hidden = true;
  element("empty").hidden = Boolean(bitmap);
  element("frame").hidden = !bitmap;
  element("readout").textContent = "";
  element("time").textContent = "none yet";
  element("size").textContent = bitmap ? `${bitmap.width} x ${bitmap.height}` : "none yet";
  if (bitmap) view.showImage(bitmap);
}

function showPrediction(prediction, seconds) {
  const colours = Array.from({ length: 256 }, (_, id) =>
    [1, 3, 5].map((place) => parseInt(colourOf(id).slice(place, place + 2), 16)));
  view.showMask(prediction, colours);
  view.setOpacity(element("opacity").value / 100);
  const text = seconds < 10 ? `${seconds.toFixed(2)} s` : `${seconds.toFixed(0)} s`;
  element("time").textContent = text;
  showLegend(prediction.ids);
  for (const id of ["result", "saves"]) element(id).hidden = false;
  say(`Segmented in ${text}.`);
}

function showLegend(ids) {
  const counts = new Uint32Array(256);
  for (const id of ids) counts[id]++;
  const present = [...counts.keys()].filter((id) => counts[id]).sort((a, b) => counts[b] - counts[a]);
  element("legend").replaceChildren(...present.map((id) => legendItem(id, counts[id] / ids.length)));
  const others = (state.model?.num_classes ?? present.length) - present.length;
  element("absent").hidden = others <= 0;
  element("absent").textContent = `${others} other ${others === 1 ? "class is" : "classes are"} not in this image.`;
}

function legendItem(id, share) {
  const item = document.createElement("li");
  item.dataset.id = id;
  const [label, box, swatch, name, part] = ["label", "input", "span", "span", "span"].map((tag) =>
    document.createElement(tag));
  Object.assign(box, { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    view.setVisible(id, box.checked);
    view.paint();
  });
  swatch.className = "swatch";
  swatch.style.backgroundColor = colourOf(id);
  Object.assign(name, { className: "name", textContent: nameOf(id) });
  Object.assign(part, { className: "share", textContent: percent(share) });
  label.append(box, swatch, name, part);
  item.append(label);
  return item;
}

function showAll(visible) {
  for (const item of element("legend").children) {
    item.querySelector("input").checked = visible;
    view.setVisible(Number(item.dataset.id), visible);
  }
  view.paint();
}

// The pointer

function pointAt(place, visible) {
  const found = view.point(place, visible);
  for (const item of element("legend").children) {
    item.classList.toggle("pointed", found !== null && Number(item.dataset.id) === found.id);
  }
  element("readout").replaceChildren();
  if (!found) return;
  const name = document.createElement("bdi"); // written from right to left, it leaves the numbers where they are
  name.textContent = nameOf(found.id);
  element("readout").append(name, `, ${percent(found.confidence)} sure, at ${place.x}, ${place.y}`);
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

element("layers").addEventListener("pointermove", (event) => pointAt(view.under(event), false));
element("layers").addEventListener("pointerdown", (event) => pointAt(view.under(event), true));
element("layers").addEventListener("pointerleave", () => pointAt(null, false));
element("layers").addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  if (!step) return;
  event.preventDefault();
  const share = event.shiftKey ? 0.1 : 0.01;
  pointAt(view.step(share * step[0], share * step[1]), true);
});

// Messages

function busy(working) {
  element("stage").setAttribute("aria-busy", working);
  element("progress").hidden = !working;
  if (working) say("Segmenting the image.");
}

/** Shows what went wrong, with a button that calls `again` if that can help; null: nothing. */
function tell(failure, again = null) {
  const known = failure instanceof Refusal;
  element("alert").hidden = !failure;
  element("alert-title").textContent = known ? failure.message : failure ? "This page made an error." : "";
  element("alert-hint").textContent = known ? failure.hint : failure ? String(failure) : "";
  state.again = known && failure.busy ? again : null;
  element("retry").hidden = !state.again;
}

element("retry").addEventListener("click", () => state.again?.());

// Ways to give an image

for (const id of ["file", "camera"]) {
  element(id).addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) open(file);
    event.target.value = ""; // the same file may be chosen again
  });
}

const imageOf = (data) => [...(data?.files ?? [])][0];

document.addEventListener("paste", (event) => {
  const file = imageOf(event.clipboardData);
  if (file) open(file);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("stage").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) element("stage").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("stage").classList.remove("over");
  const file = imageOf(event.dataTransfer);
  if (file) open(file);
});

// What is seen, and what is saved

element("opacity").addEventListener("input", (event) => {
  view.setOpacity(event.target.value / 100);
  element("opacity-text").textContent = `${event.target.value} %`;
});
element("all").addEventListener("click", () => showAll(true));
element("none").addEventListener("click", () => showAll(false));

function save(blob, file, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${(file.name || "image").replace(/\.[^.]*$/, "")}${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function saveAnswer(accept, ending, file = state.file) {
  const turn = state.turn;
  tell(null);
  busy(true);
  try {
    save(await (await ask(file, accept)).blob(), file, ending);
  } catch (failure) {
    tell(failure, () => saveAnswer(accept, ending, file));
  } finally {
    if (turn === state.turn) busy(false);
  }
}

element("save-mask").addEventListener("click", () => saveAnswer("image/png", "-mask.png"));
element("save-json").addEventListener("click", () => saveAnswer("application/json", ".json"));
element("save-overlay").addEventListener("click", () => {
  const { file } = state;
  view.overlay().toBlob((blob) => {
    if (blob) save(blob, file, "-overlay.png");
    else tell(new Refusal("The image is too large for this browser to draw.", "Save the mask instead.", false, 0));
  }, "image/png");
});

element("curl").textContent = `curl --data-binary @photo.jpg \\
  -H 'Content-Type: image/jpeg' \\
  -H 'Accept: image/png' \\
  --output mask.png \\
  ${location.origin}/invocations`;
element("python").textContent = `from semseg.client import Client

url = "${location.origin}"
client = Client(url)
found = client.predict("photo.jpg")
print(found.mask.shape)
print(found.probabilities.shape)`;

showModel();
