// Section 6 of docs/preprocess.md: ink on paper, prepared as sets of handwritten digits were.

import { grayOf, halfToEven, pasted } from "./picture.js";
import { box, cubic, image, resampled, weightsOf } from "./resampling.js";

const SHARE = 20 / 28;
const BOX_WIDTH = 0.7;
const WIDENED = 2.5;
const WORKED_AT = 600;
const PAPER_AT = 32;
const ONE_COLOUR = 4;
const MOST_EDGES = 0.6;
const FAINTEST = 12;
const DARKEST = 0.999;
const [NOISE, FULL] = [0.25, 0.75];
const SPECK = 0.04;
const AT_THE_EDGE = 0.1;
const PEN = { mass: [0.08, 0.115], box: [0.15, 0.16] };
const ITS_OWN = 1.5;
const BINS = 128;

// The ink as a gray picture of width x height, light on dark; null where there is none.
export function inkOf(flatten, width, height, way) {
  const { picture, padding } = flatten(255);
  const found = inkPicture(picture, width, height, way);
  return found || padding === 0 ? found : inkPicture(flatten(0).picture, width, height, way);
}

function inkPicture(picture, width, height, way) {
  const gray = grayOf(picture);
  const fits = gray.width === width && gray.height === height;
  if (fits && isPrepared(gray, way)) return gray;
  const ink = cutOut(picture);
  return ink && placed(broadened(ink, way), width, height, way);
}

// A plane is {width, height, values}, of numbers in row order.
const plane = (width, height, values) => ({ width, height, values });
const mapped = (one, change) => plane(one.width, one.height, Float64Array.from(one.values, change));

function isPrepared(gray, way) {
  if (quantile(sorted(gray.levels), 0.25) > 0) return false;
  const limits = boxAround(plane(gray.width, gray.height, gray.levels));
  if (!limits) return false;
  const [wide, tall] = [limits.right - limits.left, limits.bottom - limits.top];
  if (way === "box") return tall === gray.height;
  const [row, column] = centreOfMass(gray);
  const off = Math.max(Math.abs(row - gray.height / 2), Math.abs(column - gray.width / 2));
  const wanted = SHARE * Math.min(gray.width, gray.height);
  return Math.abs(Math.max(wide, tall) - wanted) <= ITS_OWN && off <= ITS_OWN;
}

function cutOut(picture) {
  const difference = differenceFromPaper(reduced(picture));
  if (!difference) return null;
  const threshold = otsu(difference.values);
  const strong = sorted(difference.values.filter((value) => value > threshold));
  const usual = quantile(strong, 0.5);
  const ink = mapped(difference, (value) => share((value / usual - NOISE) / (FULL - NOISE)));
  dropDust(ink);
  const limits = boxAround(ink);
  return limits && cropped(ink, limits);
}

const share = (value) => Math.min(1, Math.max(0, value));

function reduced(picture) {
  const { width, height } = picture;
  if (Math.max(width, height) <= WORKED_AT) return picture;
  const aspect = width / height;
  if (aspect <= 1) {
    const wide = nearest(WORKED_AT * aspect, (n) => Math.abs(aspect - n / WORKED_AT));
    return resampled(picture, wide, WORKED_AT);
  }
  const tall = nearest(WORKED_AT / aspect, (n) => (n === 0 ? 0 : Math.abs(aspect - WORKED_AT / n)));
  return resampled(picture, WORKED_AT, tall);
}

function nearest(value, error) {
  const [low, high] = [Math.floor(value), Math.ceil(value)];
  return Math.max(1, error(low) <= error(high) ? low : high);
}

// In the channel and with the sign in which ink and paper differ most.
function differenceFromPaper(picture) {
  let [strongest, best] = [null, FAINTEST];
  for (let band = 0; band < picture.bands; band++) {
    const values = plane(picture.width, picture.height, Float64Array.from(
      { length: picture.width * picture.height }, (_, i) => picture.levels[i * picture.bands + band]));
    const smooth = smoothed(values, Math.max(picture.width, picture.height) / 500);
    const paper = paperOf(values).values;
    const signed = mapped(smooth, (value, i) => value - paper[i]);
    const order = sorted(signed.values);
    const strength = quantile(order, DARKEST) + quantile(order, 1 - DARKEST);
    for (const sign of [-1, 1]) {
      if (sign * strength > best) {
        best = sign * strength;
        strongest = mapped(signed, (value) => Math.max(sign * value, 0));
      }
    }
  }
  return strongest;
}

function paperOf(values) {
  const { width, height } = values;
  const at = (x, y) => values.values[y * width + x];
  const edges = [];
  for (let x = 0; x < width; x++) edges.push(at(x, 0), at(x, height - 1));
  for (let y = 0; y < height; y++) edges.push(at(0, y), at(width - 1, y));
  const middle = quantile(sorted(edges), 0.5);
  const near = edges.filter((value) => Math.abs(value - middle) <= ONE_COLOUR);
  if (near.length / edges.length >= MOST_EDGES) return mapped(values, () => middle);
  const levels = Uint8Array.from(values.values);
  const small = resampled(image(width, height, 1, levels), PAPER_AT, PAPER_AT, null, box);
  return enlarged(medianFiltered(small), width, height);
}

function medianFiltered(small) {
  const reach = PAPER_AT / 4;
  const inside = (n) => Math.min(PAPER_AT - 1, Math.max(0, n));
  return plane(PAPER_AT, PAPER_AT, Float64Array.from({ length: PAPER_AT ** 2 }, (_, i) => {
    const [y, x] = [Math.floor(i / PAPER_AT), i % PAPER_AT];
    const around = [];
    for (let v = y - reach; v <= y + reach; v++) {
      for (let u = x - reach; u <= x + reach; u++) {
        around.push(small.levels[inside(v) * PAPER_AT + inside(u)]);
      }
    }
    return quantile(sorted(around), 0.5);
  }));
}

// Cubic, without rounding.
function enlarged(small, width, height) {
  const rows = weightsOf(small.width, width, 0, small.width, cubic);
  const columns = weightsOf(small.height, height, 0, small.height, cubic);
  const wide = new Float64Array(width * small.height);
  for (let y = 0; y < small.height; y++) {
    rows.forEach(({ first, weights }, x) => {
      weights.forEach((weight, i) => {
        wide[y * width + x] += weight * small.values[y * small.width + first + i];
      });
    });
  }
  const result = new Float64Array(width * height);
  columns.forEach(({ first, weights }, y) => {
    weights.forEach((weight, i) => {
      for (let x = 0; x < width; x++) result[y * width + x] += weight * wide[(first + i) * width + x];
    });
  });
  return plane(width, height, result);
}

// A Gaussian, mirrored at the edges, as scipy.ndimage.gaussian_filter.
function smoothed(values, sigma) {
  const radius = Math.floor(4 * sigma + 0.5);
  const kernel = Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-0.5 * ((i - radius) / sigma) ** 2));
  const total = kernel.reduce((sum, weight) => sum + weight, 0);
  const weights = kernel.map((weight) => weight / total);
  const { width, height } = values;
  const along = (from, length, step, place, line) => {
    let sum = 0;
    for (let i = -radius; i <= radius; i++) {
      sum += weights[i + radius] * from[line + mirrored(place + i, length) * step];
    }
    return sum;
  };
  const down = new Float64Array(width * height);
  const across = new Float64Array(width * height);
  for (let i = 0; i < down.length; i++) {
    down[i] = along(values.values, height, width, Math.floor(i / width), i % width);
  }
  for (let i = 0; i < across.length; i++) {
    across[i] = along(down, width, 1, i % width, i - (i % width));
  }
  return plane(width, height, across);
}

function mirrored(place, length) {
  const turn = ((place % (2 * length)) + 2 * length) % (2 * length);
  return turn < length ? turn : 2 * length - 1 - turn;
}

// The threshold of smallest variance within the two sides (Otsu, 1979).
function otsu(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const counts = new Float64Array(BINS);
  for (const value of values) {
    counts[Math.min(BINS - 1, Math.floor(((value - low) / (high - low)) * BINS))] += 1;
  }
  const middle = (bin) => low + ((bin + 0.5) * (high - low)) / BINS;
  const all = counts.reduce((sum, count, bin) => sum + count * middle(bin), 0);
  let [below, sum, best, threshold] = [0, 0, -1, middle(0)];
  for (let bin = 0; bin < BINS; bin++) {
    below += counts[bin];
    sum += counts[bin] * middle(bin);
    const above = values.length - below;
    const between = below * above * (sum / below - (all - sum) / above) ** 2;
    if (between > best) [best, threshold] = [between, middle(bin)];
  }
  return threshold;
}

// Parts that touch by edges or corners: none of dust, nor what reaches in from the picture's edge.
function dropDust(ink) {
  const { width, height, values } = ink;
  const parts = new Int32Array(values.length);
  const found = [];
  for (let start = 0; start < values.length; start++) {
    if (values[start] <= 0 || parts[start]) continue;
    found.push(filledFrom(start, found.length + 1, ink, parts));
  }
  if (found.length <= 1) return;
  const largest = Math.max(...found.map((part) => part.amount));
  const inner = found.filter((part) => !part.atEdge).map((part) => part.amount);
  const dropEdges = Math.max(0, ...inner) >= AT_THE_EDGE * largest;
  const amounts = found.map((part) => (dropEdges && part.atEdge ? 0 : part.amount));
  const least = SPECK * Math.max(...amounts);
  for (let i = 0; i < width * height; i++) {
    if (parts[i] && amounts[parts[i] - 1] < least) values[i] = 0;
  }
}

function filledFrom(start, number, { width, height, values }, parts) {
  const stack = [start];
  const part = { amount: 0, atEdge: false };
  parts[start] = number;
  while (stack.length) {
    const place = stack.pop();
    const [y, x] = [Math.floor(place / width), place % width];
    part.amount += values[place];
    part.atEdge ||= x === 0 || y === 0 || x === width - 1 || y === height - 1;
    for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
      for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
        const next = v * width + u;
        if (values[next] > 0 && !parts[next]) {
          parts[next] = number;
          stack.push(next);
        }
      }
    }
  }
  return part;
}

// With lines as broad as a pen's, where they are thinner.
function broadened(ink, way) {
  const longer = Math.max(ink.width, ink.height);
  const [thinnest, wanted] = PEN[way].map((one) => one * longer);
  const dark = (value) => (value > 0.5 ? 1 : 0);
  const inside = distances(mapped(padded(ink, 1), dark));
  const ridge = ridgeOf(inside);
  if (!ridge.length) return ink;
  const broad = (2 * ridge.reduce((sum, value) => sum + value, 0)) / ridge.length - 1;
  if (broad >= thinnest) return ink;
  const reach = (wanted - broad) / 2;
  const wide = padded(ink, Math.ceil(reach) + 1);
  const outside = distances(mapped(wide, (value) => 1 - dark(value))).values;
  return mapped(wide, (value, i) => Math.max(value, share(reach + 0.5 - outside[i])));
}

function ridgeOf({ width, height, values }) {
  const ridge = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = values[y * width + x];
      if (here <= 0) continue;
      let largest = here;
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          largest = Math.max(largest, values[v * width + u]);
        }
      }
      if (largest === here) ridge.push(here);
    }
  }
  return ridge;
}

// From each pixel above 0 to the nearest 0, by lower envelopes of parabolas (Felzenszwalb and
// Huttenlocher, 2012).
function distances({ width, height, values }) {
  const far = width ** 2 + height ** 2;
  const squares = Float64Array.from(values, (value) => (value > 0 ? far : 0));
  for (let x = 0; x < width; x++) envelope(squares, x, width, height);
  for (let y = 0; y < height; y++) envelope(squares, y * width, 1, width);
  return plane(width, height, squares.map(Math.sqrt));
}

function envelope(squares, begin, step, length) {
  const heights = Float64Array.from({ length }, (_, i) => squares[begin + i * step]);
  const [lowest, starts] = [[0], [-Infinity]];
  for (let i = 1; i < length; i++) {
    let meet;
    do {
      const last = lowest[lowest.length - 1];
      meet = (heights[i] + i * i - heights[last] - last * last) / (2 * (i - last));
    } while (meet <= starts[starts.length - 1] && (lowest.pop(), starts.pop(), true));
    lowest.push(i);
    starts.push(meet);
  }
  for (let i = 0, k = 0; i < length; i++) {
    while (k + 1 < starts.length && starts[k + 1] < i) k++;
    squares[begin + i * step] = (i - lowest[k]) ** 2 + heights[lowest[k]];
  }
}

function placed(ink, width, height, way) {
  const [wide, tall] = sizeOf(ink, width, height, way);
  const whole = image(ink.width, ink.height, 1, Uint8Array.from(ink.values, (v) => halfToEven(v * 255)));
  const small = resampled(whole, wide, tall, null, tall < ink.height ? box : cubic);
  const most = Math.max(1, small.levels.reduce((a, b) => Math.max(a, b), 0));
  small.levels = small.levels.map((level) => halfToEven(Math.min(255, level * (255 / most))));
  let [top, left] = [Math.floor((height - tall) / 2), Math.floor((width - wide) / 2)];
  if (way === "mass") {
    const [row, column] = centreOfMass(small);
    [top, left] = [halfToEven(height / 2 - row), halfToEven(width / 2 - column)];
  }
  top = Math.min(Math.max(0, top), height - tall);
  left = Math.min(Math.max(0, left), width - wide);
  return pasted(image(width, height, 1), small, left, top);
}

function sizeOf(ink, width, height, way) {
  if (way === "mass") {
    const scale = (SHARE * Math.min(width, height)) / Math.max(ink.width, ink.height);
    return [ink.width, ink.height].map((n) => Math.max(1, halfToEven(n * scale)));
  }
  const scale = height / ink.height;
  const wide = Math.min(BOX_WIDTH * width, WIDENED * ink.width * scale);
  return [Math.max(1, halfToEven(wide)), height];
}

function centreOfMass({ width, levels }) {
  let [total, rows, columns] = [0, 0, 0];
  levels.forEach((level, i) => {
    total += level;
    rows += level * Math.floor(i / width);
    columns += level * (i % width);
  });
  return [rows / total, columns / total];
}

function boxAround({ width, height, values }) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  values.forEach((value, i) => {
    if (value <= 0) return;
    const [y, x] = [Math.floor(i / width), i % width];
    left = Math.min(left, x);
    right = Math.max(right, x + 1);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y + 1);
  });
  return right > 0 ? { left, top, right, bottom } : null;
}

function cropped({ width, values }, { left, top, right, bottom }) {
  const [wide, tall] = [right - left, bottom - top];
  return plane(wide, tall, Float64Array.from({ length: wide * tall }, (_, i) =>
    values[(top + Math.floor(i / wide)) * width + left + (i % wide)]));
}

function padded({ width, height, values }, margin) {
  const wide = width + 2 * margin;
  const result = new Float64Array(wide * (height + 2 * margin));
  for (let y = 0; y < height; y++) {
    result.set(values.subarray(y * width, (y + 1) * width), (y + margin) * wide + margin);
  }
  return plane(wide, height + 2 * margin, result);
}

const sorted = (values) => Float64Array.from(values).sort();

// With a value between two as far as it lies between them, as numpy.quantile.
function quantile(order, level) {
  const place = level * (order.length - 1);
  const low = Math.floor(place);
  const high = Math.min(order.length - 1, low + 1);
  return order[low] + (place - low) * (order[high] - order[low]);
}
