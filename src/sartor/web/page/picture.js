// What the steps of docs/preprocess.md share: gray, one picture on another, rounding as Python's.

import { image } from "./resampling.js";

export function grayOf(picture) {
  if (picture.bands === 1) return picture;
  const { width, height, levels } = picture;
  const gray = new Uint8Array(width * height);
  for (let pixel = 0, place = 0; pixel < gray.length; pixel++, place += 3) {
    const colour = 19595 * levels[place] + 38470 * levels[place + 1] + 7471 * levels[place + 2];
    gray[pixel] = (colour + 32768) >> 16;
  }
  return image(width, height, 1, gray);
}

export function pasted(canvas, picture, left, top) {
  const row = picture.width * picture.bands;
  for (let y = 0; y < picture.height; y++) {
    const place = ((top + y) * canvas.width + left) * canvas.bands;
    canvas.levels.set(picture.levels.subarray(y * row, (y + 1) * row), place);
  }
  return canvas;
}

export function halfToEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
