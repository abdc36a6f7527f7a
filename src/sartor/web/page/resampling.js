// Section 4 of docs/preprocess.md: Pillow's filters, with its integers.

// {width, height, bands, levels}: levels a Uint8Array (H, W, bands).
export function image(width, height, bands, levels) {
  return { width, height, bands, levels: levels ?? new Uint8Array(width * height * bands) };
}

export const cubic = { support: 2, weight: cubicWeight };
export const bilinear = { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) };
export const box = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
const linear = { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) };
export const filters = { bicubic: cubic, bilinear: linear, box };

// What a preprocess calls them; one from before there was a choice names none.
export const filterOf = (name) => ({ bicubic: cubic, bilinear, box })[name ?? "bicubic"];

function cubicWeight(x) {
  x = Math.abs(x);
  if (x < 1) return ((1.5 * x - 2.5) * x) * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

// The part [left, top, right, bottom] of a picture, or all of it, as width x height.
export function resampled(picture, width, height, part, filter = cubic) {
  const [left, top, right, bottom] = part ?? [0, 0, picture.width, picture.height];
  const shrunk = picture.height - height;
  const columnsFirst = shrunk > 0 && shrunk > 2 * (picture.width - width);
  const across = (one) => alongRows(one, width, left, right, filter);
  const down = (one) => alongColumns(one, height, top, bottom, filter);
  return columnsFirst ? across(down(picture)) : down(across(picture));
}

function alongRows(picture, size, begin, end, filter) {
  const kernels = kernelsOf(picture.width, size, begin, end, filter);
  if (!kernels) return picture;
  const result = image(size, picture.height, picture.bands);
  const { bands, width } = picture;
  kernels.forEach(({ first, weights }, x) => {
    for (let y = 0; y < picture.height; y++) {
      for (let band = 0; band < bands; band++) {
        let total = 1 << 21;
        let place = (y * width + first) * bands + band;
        for (let i = 0; i < weights.length; i++, place += bands) {
          total += weights[i] * picture.levels[place];
        }
        result.levels[(y * size + x) * bands + band] = limited(total >> 22);
      }
    }
  });
  return result;
}

function alongColumns(picture, size, begin, end, filter) {
  const kernels = kernelsOf(picture.height, size, begin, end, filter);
  if (!kernels) return picture;
  const result = image(picture.width, size, picture.bands);
  const row = picture.width * picture.bands;
  kernels.forEach(({ first, weights }, y) => {
    for (let x = 0; x < row; x++) {
      let total = 1 << 21;
      for (let i = 0; i < weights.length; i++) {
        total += weights[i] * picture.levels[(first + i) * row + x];
      }
      result.levels[y * row + x] = limited(total >> 22);
    }
  });
  return result;
}

export const limited = (level) => (level < 0 ? 0 : level > 255 ? 255 : level);

// For each new pixel the first one that it is made of, and the weights; null where nothing changes.
function kernelsOf(length, size, begin, end, filter) {
  if (size === length && begin === 0 && end === length) return null;
  return weightsOf(length, size, begin, end, filter).map(({ first, weights }) => {
    return { first, weights: weights.map((w) => Math.trunc(w * 2 ** 22 + (w < 0 ? -0.5 : 0.5))) };
  });
}

export function weightsOf(length, size, begin, end, filter) {
  [begin, end] = [Math.fround(begin), Math.fround(end)];
  const scale = Math.fround(end - begin) / size;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  return Array.from({ length: size }, (_, x) => {
    const centre = begin + (x + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let i = first; i < last; i++) {
      weights.push(filter.weight((i - centre + 0.5) * (1 / stretch)));
    }
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: weights.map((weight) => weight / total) };
  });
}
