// PNG read to the bit, section 1 of docs/preprocess.md. A browser's own decoder applies colour
// profiles, drops the lower half of 16 bits and rounds what is transparent.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const MOST_PIXELS = 100e6;
const BANDS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
// Of an interlaced picture: first column and row of each pass, and the steps between its pixels.
const WHOLE = [[0, 0, 1, 1]];
const ADAM7 = [
  [0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2],
];

export function isPng(bytes) {
  return SIGNATURE.every((byte, place) => bytes[place] === byte);
}

// {width, height, bands, bits, colourType, samples, palette, transparent, orientation}: samples
// (H, W, bands) as stored, in 0..2^bits - 1.
export async function decodePng(bytes) {
  const chunks = chunksOf(bytes);
  const header = view(chunks.find((chunk) => chunk.kind === "IHDR").body);
  const [width, height] = [header.getUint32(0), header.getUint32(4)];
  const [bits, colourType, interlaced] = [8, 9, 12].map((place) => header.getUint8(place));
  const bands = BANDS[colourType];
  if (!width || !height || !bands) throw new Error("The picture is damaged.");
  if (width * height > MOST_PIXELS) throw new Error("The picture has more than 100 megapixels.");
  const packed = chunks.filter((chunk) => chunk.kind === "IDAT").map((chunk) => chunk.body);
  const data = await inflated(packed, dataLength(width, height, bands * bits, interlaced));
  const body = (kind) => chunks.find((chunk) => chunk.kind === kind)?.body;
  const exif = body("eXIf");
  return {
    width, height, bands, bits, colourType,
    samples: samplesOf(data, width, height, bands, bits, interlaced),
    palette: body("PLTE"),
    transparent: body("tRNS"),
    orientation: exif ? orientationOf(exif) : 1,
  };
}

function view(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function chunksOf(bytes) {
  const data = view(bytes);
  const found = [];
  for (let place = 8; place + 12 <= bytes.length;) {
    const length = data.getUint32(place);
    const kind = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    if (place + 12 + length > bytes.length) break;
    found.push({ kind, body: bytes.subarray(place + 8, place + 8 + length) });
    place += 12 + length;
    if (kind === "IEND") return found;
  }
  throw new Error("The picture is cut off.");
}

const rowBytes = (columns, bitsPerPixel) => Math.ceil((columns * bitsPerPixel) / 8);

function passes(width, height, interlaced) {
  return (interlaced ? ADAM7 : WHOLE)
    .map(([left, top, across, down]) => ({
      left, top, across, down,
      columns: Math.ceil((width - left) / across),
      rows: Math.ceil((height - top) / down),
    }))
    .filter((pass) => pass.columns > 0 && pass.rows > 0);
}

function dataLength(width, height, bitsPerPixel, interlaced) {
  return passes(width, height, interlaced).reduce(
    (total, pass) => total + pass.rows * (1 + rowBytes(pass.columns, bitsPerPixel)), 0);
}

// A file may unpack to far more than its picture needs: no more than that is kept.
async function inflated(parts, length) {
  const result = new Uint8Array(length);
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  let filled = 0;
  while (filled < length) {
    let next;
    try {
      next = await reader.read();
    } catch {
      throw new Error("The picture is damaged.");
    }
    if (next.done) throw new Error("The picture is cut off.");
    const kept = next.value.subarray(0, length - filled);
    result.set(kept, filled);
    filled += kept.length;
  }
  reader.cancel().catch(() => {});
  return result;
}

function samplesOf(data, width, height, bands, bits, interlaced) {
  const samples = new (bits === 16 ? Uint16Array : Uint8Array)(width * height * bands);
  const step = Math.max(1, (bands * bits) / 8);
  let begin = 0;
  for (const pass of passes(width, height, interlaced)) {
    const length = rowBytes(pass.columns, bands * bits);
    let above = new Uint8Array(length);
    for (let y = 0; y < pass.rows; y++, begin += length + 1) {
      const row = data.subarray(begin + 1, begin + 1 + length);
      unfilter(data[begin], row, above, step);
      const first = (pass.top + y * pass.down) * width + pass.left;
      if (bits === 8 && pass.across === 1) {
        samples.set(row, first * bands);
        above = row;
        continue;
      }
      for (let x = 0; x < pass.columns; x++) {
        for (let band = 0; band < bands; band++) {
          const place = (first + x * pass.across) * bands + band;
          samples[place] = sampleAt(row, x * bands + band, bits);
        }
      }
      above = row;
    }
  }
  return samples;
}

function unfilter(kind, row, above, step) {
  if (kind > 4) throw new Error("The picture is damaged.");
  if (kind === 0) return;
  for (let x = 0; x < row.length; x++) {
    const left = x >= step ? row[x - step] : 0;
    const corner = x >= step ? above[x - step] : 0;
    if (kind === 1) row[x] += left;
    else if (kind === 2) row[x] += above[x];
    else if (kind === 3) row[x] += (left + above[x]) >> 1;
    else row[x] += paeth(left, above[x], corner);
  }
}

function paeth(left, above, corner) {
  const guess = left + above - corner;
  const a = Math.abs(guess - left);
  const b = Math.abs(guess - above);
  const c = Math.abs(guess - corner);
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

function sampleAt(row, place, bits) {
  if (bits === 8) return row[place];
  if (bits === 16) return (row[2 * place] << 8) | row[2 * place + 1];
  const shift = 8 - bits - ((place * bits) % 8);
  return (row[(place * bits) >> 3] >> shift) & ((1 << bits) - 1);
}

function orientationOf(chunk) {
  // Some programs write the mark of JPEG's segment before it: "Exif" and two zeros.
  const exif = chunk[0] === 0x45 ? chunk.subarray(6) : chunk;
  const little = exif[0] === 0x49;
  const data = view(exif);
  try {
    const start = data.getUint32(4, little);
    const count = data.getUint16(start, little);
    for (let entry = 0; entry < count; entry++) {
      const place = start + 2 + 12 * entry;
      const value = data.getUint16(place + 8, little);
      if (data.getUint16(place, little) === 0x0112 && value >= 1 && value <= 8) return value;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}
