// The page: a picture in, an answer out. `there.js` asks a server, `here.js` runs the network.

import { setInWords } from "./answers.js";
import { bytesOf, drawingOn } from "./drawing.js";

const FIRST = 10;
const DARK = 0.5;
const at = (id) => document.getElementById(id);
const where = document.querySelector("meta[name=network]").content;
const engine = await import(where === "here" ? "./here.js" : "./there.js");

let network = null;
let source = null;
let dark = false;
let showAll = false;
let lastAnswer = null;
const drawing = drawingOn(at("paper"), () => show({ kind: "drawing" }));

// The newest picture is asked about next; those in between are left out.
let asking = false;
let waiting = null;

async function start() {
  try {
    network = await engine.open();
  } catch (error) {
    at("facts").textContent = "";
    if (error.status === 401) at("ask").hidden = false;
    say(error.status === 401 && !at("token").value ? "" : error.message);
    return;
  }
  at("ask").hidden = true;
  say("");
  network.models.forEach(({ name }) => at("model").append(new Option(name, name)));
  at("choice").hidden = network.models.length < 2;
  useModel(network.models[0]);
}

function useModel(model) {
  at("title").textContent = document.title = model.name;
  at("facts").textContent = factsOf(model).join(" · ");
  setPaper(isDark(model));
  clear();
}

function factsOf({ classes, preprocess, figures }) {
  const facts = [`${classes.length} classes`];
  if (preprocess) {
    const { width, height, channels } = preprocess;
    facts.push(`${width} × ${height} pixels, ${channels === 1 ? "gray" : "colour"}`);
  }
  if (figures?.accuracy_interval) {
    const [low, high] = figures.accuracy_interval.map(percent);
    const count = figures.count.toLocaleString("en");
    const part = figures.split === "val" ? "validation" : figures.split;
    facts.push(`${percent(figures.accuracy)} (${low} to ${high}) of ${count} ${part} images right`);
  }
  return facts;
}

// Networks of ink find out by themselves what is paper.
function isDark({ preprocess, input_ranges: ranges }) {
  if (preprocess?.ink && preprocess.ink !== "off") return false;
  const edges = ranges?.["brightness at the edges"];
  return edges ? (edges[0] + edges[1]) / 2 < DARK : false;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function show(next) {
  source = next;
  const drawn = next.kind === "drawing";
  at("shown").hidden = drawn;
  at("hint").hidden = !drawn || !drawing.empty;
  waiting = next;
  ask();
}

async function ask() {
  if (asking || !network) return;
  asking = true;
  while (waiting) {
    const next = waiting;
    waiting = null;
    try {
      const bytes = next.kind === "drawing" ? await drawing.bytes() : next.bytes;
      const told = await network.predict(bytes, next.name ?? "drawing.png", at("model").value);
      if (next === source || next.kind === source?.kind) tell(told);
    } catch (error) {
      tell({ error: error.message });
    }
  }
  asking = false;
}

function tell(told) {
  lastAnswer = told.error ? null : told;
  say(told.error ?? "");
  at("answer").hidden = !lastAnswer;
  at("waiting").hidden = true;
  if (!lastAnswer) return;
  at("label").textContent = plain(told.label);
  at("probability").textContent = percent(told.probability);
  tellSet(told);
  tellUnknown(told);
  drawBars(told);
  if (told.picture) drawSeen(told.picture);
  settle(`${plain(told.label)}, ${percent(told.probability)}`);
}

// Marks that turn the direction of writing would make a name read as another; they stand escaped.
function plain(name) {
  return name.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function tellUnknown({ unknown, novelty_percentile: percentile, unlike_training: unlike }) {
  const reasons = [];
  if (unknown && percentile !== null) {
    reasons.push(`more novel than ${percentile.toFixed(0)} of 100 validation images`);
  }
  if (unlike?.length) reasons.push(unlike.join("; "));
  const told = unknown ? "Unknown: unlike the training images" : "Unlike the training images";
  const why = reasons.length ? ` (${reasons.join("; ")})` : "";
  at("unknown").hidden = !unknown && !why;
  at("unknown").textContent = `${told}${why}. The label means little here.`;
}

function tellSet({ set, probabilities }) {
  const coverage = network.models.find(({ name }) => name === at("model").value)?.calibration?.coverage;
  const count = Object.keys(probabilities).length;
  at("set").textContent = set ? `Prediction set: ${setInWords(set.map(plain), count)}` : "";
  at("promise").textContent = set && coverage
    ? `Of 100 such sets ${(100 * coverage).toFixed(0)} hold the true class, for pictures like the ` +
      "validation images." : "";
}

function drawBars({ probabilities, label, set }) {
  const rows = Object.entries(probabilities)
    .sort(([one, p], [other, q]) => q - p || (other === label) - (one === label));
  const shown = showAll ? rows : rows.slice(0, FIRST);
  const bars = at("bars");
  while (bars.children.length > shown.length) bars.lastChild.remove();
  while (bars.children.length < shown.length) {
    const row = document.createElement("li");
    row.append(document.createElement("span"), document.createElement("span"));
    bars.append(row);
  }
  shown.forEach(([name, probability], place) => {
    const row = bars.children[place];
    row.firstChild.textContent = plain(name);
    row.lastChild.textContent = percent(probability);
    row.style.setProperty("--share", probability);
    row.classList.toggle("in-set", set?.includes(name) ?? false);
  });
  at("more").hidden = rows.length <= FIRST;
  at("more").textContent = showAll ? `The first ${FIRST}` : `All ${rows.length} classes`;
}

function drawSeen({ width, height, bands, levels }) {
  const canvas = at("seen");
  [canvas.width, canvas.height] = [width, height];
  const data = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let band = 0; band < 3; band++) {
      data.data[4 * pixel + band] = levels[pixel * bands + (bands === 3 ? band : 0)];
    }
    data.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
}

// For screen readers, once it stays the same for a moment.
let settling = null;
function settle(text) {
  clearTimeout(settling);
  settling = setTimeout(() => { at("status").textContent = text; }, 600);
}

function say(error) {
  at("error").textContent = error;
  at("error").hidden = !error;
}

function setPaper(toDark) {
  dark = toDark;
  at("invert").setAttribute("aria-pressed", String(dark));
  at("hint").classList.toggle("on-dark", dark);
}

function clear() {
  stopFilm();
  drawing.clear(dark);
  source = waiting = lastAnswer = null;
  for (const id of ["shown", "answer"]) at(id).hidden = true;
  at("hint").hidden = at("waiting").hidden = false;
  at("file").value = "";
  say("");
  settle("");
}

async function take(file) {
  if (!file) return;
  stopFilm();
  let bytes;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch {
    at("waiting").hidden = true;
    tell({ error: `${file.name} cannot be read: it is a folder, or larger than any picture.` });
    return;
  }
  if (at("shown").src) URL.revokeObjectURL(at("shown").src);
  at("shown").src = URL.createObjectURL(file);
  at("shown").alt = file.name;
  show({ kind: "file", bytes, name: file.name });
}

let film = null;

async function startFilm() {
  try {
    film = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    say("There is no camera here, or the browser was not allowed to use it.");
    return;
  }
  at("camera").srcObject = film;
  at("camera").hidden = false;
  at("hint").hidden = true;
  at("film").textContent = "Take picture";
  await at("camera").play();
}

async function takeFromFilm() {
  const video = at("camera");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const bytes = await bytesOf(canvas);
  await take(new File([bytes], "camera.png", { type: "image/png" }));
}

function stopFilm() {
  film?.getTracks().forEach((track) => track.stop());
  film = null;
  at("camera").hidden = true;
  at("film").textContent = "Camera";
}

at("file").addEventListener("change", (event) => take(event.target.files[0]));
at("clear").addEventListener("click", clear);
at("film").addEventListener("click", () => (film ? takeFromFilm() : startFilm()));
at("invert").addEventListener("click", () => { setPaper(!dark); clear(); });
at("model").addEventListener("change", () => {
  useModel(network.models.find(({ name }) => name === at("model").value));
});
at("more").addEventListener("click", () => { showAll = !showAll; drawBars(lastAnswer); });
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  engine.keepToken(at("token").value);
  start();
});
at("paper").addEventListener("keydown", (event) => {
  if (event.key === "Delete" || event.key === "Backspace") clear();
});
addEventListener("paste", (event) => {
  take([...event.clipboardData.files].find((file) => file.type.startsWith("image/")));
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  at("stage").classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) at("stage").classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  at("stage").classList.remove("dropping");
  take(event.dataTransfer.files[0]);
});

await start();
document.documentElement.dataset.ready = "yes";
