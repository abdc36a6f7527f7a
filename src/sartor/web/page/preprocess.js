// docs/preprocess.md: how a picture becomes the pixels that the network is given.

import { inkOf } from "./ink.js";
import { grayOf, halfToEven, pasted } from "./picture.js";
import { decodePng, isPng } from "./png.js";
import { filterOf, image, limited, resampled } from "./resampling.js";

const MOST_PIXELS = 100e6;

// The bytes of a file as uint8 (H, W, C) in `levels`. PNG to the bit; other formats as the browser
// decodes them.
export async function prepared(bytes, settings) {
  const png = isPng(bytes) ? await decodePng(bytes) : null;
  if (png) return preparedPixels((behind) => flattened(png, behind, settings.value_range), settings);
  const pixels = await decodedByBrowser(bytes);
  return preparedPixels((behind) => flattened(pixels, behind, []), settings);
}

// `flatten(behind)` gives {picture, padding} over a background level.
function preparedPixels(flatten, settings) {
  const { channels, width, height } = settings;
  if (settings.ink !== "off") {
    const inked = inkOf(flatten, width, height, settings.ink);
    if (inked) return repeated(inked, channels);
  }
  let { picture, padding } = flatten(settings.background === "white" ? 255 : 0);
  if (channels === 1) picture = grayOf(picture);
  return repeated(resized(picture, width, height, settings, padding), channels);
}

// What the browser decodes is upright, RGBA and of 8 bits.
async function decodedByBrowser(bytes) {
  const options = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes]), options);
  } catch {
    throw new Error("This is not a picture that the browser can read.");
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error("The picture has more than 100 megapixels.");
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const samples = context.getImageData(0, 0, width, height).data;
  return { width, height, bands: 4, bits: 8, colourType: 6, samples, orientation: 1 };
}

// Sections 2 and 3.
export function flattened(png, behind, valueRange) {
  if (png.colourType === 0 && png.bits === 16) return deep(png, behind, valueRange);
  const { colours, alpha } = coloursOf(png);
  const seen = alpha && alpha.some((level) => level < 255);
  if (!alpha || (png.colourType === 3 && !seen)) {
    return { picture: upright(colours, png.orientation), padding: 0 };
  }
  const mixed = over(asColour(colours), alpha, behind);
  const keyed = png.transparent && (png.colourType === 0 || png.colourType === 2);
  return { picture: upright(mixed, png.orientation), padding: keyed || seen ? behind : 0 };
}

function deep(png, behind, valueRange) {
  const fractions = valueRange.length > 0 && Math.max(...valueRange.map(Math.abs)) <= 1;
  const [low, high] = valueRange.length > 0 && !fractions ? valueRange : [0, 65535];
  const key = png.transparent ? (png.transparent[0] << 8) | png.transparent[1] : null;
  const levels = mapped(png.samples, (value) =>
    value === key ? behind : limited(halfToEven(((value - low) / (high - low)) * 255)));
  const picture = image(png.width, png.height, 1, levels);
  return { picture: upright(picture, png.orientation), padding: key === null ? 0 : behind };
}

function coloursOf({ width, height, bands, bits, colourType, samples, palette, transparent }) {
  const count = width * height;
  if (colourType === 3) {
    const levels = new Uint8Array(3 * count);
    const alpha = transparent ? new Uint8Array(count) : null;
    for (let pixel = 0; pixel < count; pixel++) {
      const entry = samples[pixel];
      for (let band = 0; band < 3; band++) levels[3 * pixel + band] = palette[3 * entry + band] ?? 0;
      if (alpha) alpha[pixel] = transparent[entry] ?? 255;
    }
    return { colours: image(width, height, 3, levels), alpha };
  }
  const scale = bits === 16 ? 1 / 256 : 255 / ((1 << Math.min(bits, 8)) - 1);
  const eight = bits === 8 ? samples : mapped(samples, (sample) => Math.floor(sample * scale));
  const shown = bands === 2 || bands === 4 ? bands - 1 : bands;
  if (shown === bands) {
    const colours = image(width, height, bands, eight);
    return { colours, alpha: transparent ? keyedAlpha(colours, transparent, bits) : null };
  }
  const levels = new Uint8Array(shown * count);
  const alpha = new Uint8Array(count);
  for (let pixel = 0; pixel < count; pixel++) {
    for (let band = 0; band < shown; band++) {
      levels[shown * pixel + band] = eight[bands * pixel + band];
    }
    alpha[pixel] = eight[bands * pixel + shown];
  }
  return { colours: image(width, height, shown, levels), alpha };
}

// As Pillow does: of gray below 8 bits, the key of 1 bit only is scaled as the samples are.
function keyedAlpha({ width, height, bands, levels }, transparent, bits) {
  const keys = Array.from({ length: bands }, (_, band) => {
    const key = (transparent[2 * band] << 8) | transparent[2 * band + 1];
    return bits === 1 ? key * 255 : key & 255;
  });
  const alpha = new Uint8Array(width * height).fill(255);
  for (let pixel = 0; pixel < alpha.length; pixel++) {
    if (keys.every((key, band) => levels[bands * pixel + band] === key)) alpha[pixel] = 0;
  }
  return alpha;
}

// Uint8Array.from takes ten times as long, which shows with a photograph of 12 megapixels.
function mapped(values, change) {
  const levels = new Uint8Array(values.length);
  for (let place = 0; place < levels.length; place++) levels[place] = change(values[place]);
  return levels;
}

function over({ width, height, levels }, alpha, behind) {
  const mixed = new Uint8Array(levels.length);
  for (let pixel = 0, place = 0; pixel < alpha.length; pixel++) {
    const share = alpha[pixel];
    const rest = 128 * behind * (255 - share) + 16384;
    for (const end = place + 3; place < end; place++) {
      const total = 128 * levels[place] * share + rest;
      mixed[place] = ((total >> 8) + total) >> 15;
    }
  }
  return image(width, height, 3, mixed);
}

function asColour(picture) {
  return repeated(picture, 3);
}

function repeated(picture, channels) {
  if (picture.bands === channels) return picture;
  const levels = new Uint8Array(picture.levels.length * channels);
  for (let place = 0, pixel = 0; place < levels.length; pixel++) {
    for (const end = place + channels; place < end; place++) levels[place] = picture.levels[pixel];
  }
  return image(picture.width, picture.height, channels, levels);
}

function upright(picture, orientation) {
  if (orientation === 1) return picture;
  const turned = orientation >= 5;
  const [across, down] = [[2, 3, 6, 7], [3, 4, 7, 8]].map((some) => some.includes(orientation));
  const { bands } = picture;
  const [width, height] = turned
    ? [picture.height, picture.width] : [picture.width, picture.height];
  const result = image(width, height, bands);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [u, v] = [across ? width - 1 - x : x, down ? height - 1 - y : y];
      const from = (turned ? u * picture.width + v : v * picture.width + u) * bands;
      const to = (y * width + x) * bands;
      for (let band = 0; band < bands; band++) result.levels[to + band] = picture.levels[from + band];
    }
  }
  return result;
}

// Section 5.
function resized(picture, width, height, { resize, resampling }, padding) {
  const filter = filterOf(resampling);
  if (picture.width === width && picture.height === height) return picture;
  if (resize === "stretch") return resampled(picture, width, height, null, filter);
  if (resize === "crop") {
    const part = middle(picture.width, picture.height, width / height);
    return resampled(picture, width, height, part, filter);
  }
  const scale = Math.min(width / picture.width, height / picture.height);
  const inner = [picture.width, picture.height].map((n) => Math.max(1, halfToEven(n * scale)));
  const small = resampled(picture, ...inner, null, filter);
  const [left, top] = [halfToEven((width - inner[0]) / 2), halfToEven((height - inner[1]) / 2)];
  const canvas = image(width, height, picture.bands);
  canvas.levels.fill(padding);
  return pasted(canvas, small, left, top);
}

function middle(width, height, wanted) {
  const ratio = width / height;
  const across = ratio > wanted ? wanted * height : width;
  const down = ratio < wanted ? width / wanted : height;
  const [left, top] = [(width - across) * 0.5, (height - down) * 0.5];
  return [left, top, left + across, top + down];
}
