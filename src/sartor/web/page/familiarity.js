// In what an image lies outside all training images, by a few plain figures: as sartor's own.

const MARGIN = 0.1;
const NEVER_LESS = 0.02;

// `picture` as the network is given it; `ranges` by name [lowest, highest] in training.
export function differences(picture, ranges) {
  return Object.entries(figuresOf(picture)).flatMap(([name, value]) => {
    if (!ranges?.[name]) return [];
    const [low, high] = ranges[name];
    const margin = Math.max(NEVER_LESS, MARGIN * (high - low));
    if (value >= low - margin && value <= high + margin) return [];
    return [`${name} ${value.toFixed(2)}, in training ${low.toFixed(2)} to ${high.toFixed(2)}`];
  });
}

function figuresOf({ width, height, bands, levels }) {
  const gray = new Float64Array(width * height);
  let colour = 0;
  for (let pixel = 0; pixel < gray.length; pixel++) {
    const some = Array.from(levels.subarray(pixel * bands, (pixel + 1) * bands), (n) => n / 255);
    gray[pixel] = some.reduce((sum, value) => sum + value, 0) / bands;
    colour += Math.max(...some) - Math.min(...some);
  }
  const brightness = mean(gray);
  const at = (x, y) => gray[y * width + x];
  const [edges, down, across] = [[], [], []];
  for (let y = 0; y < height; y++) {
    edges.push(at(0, y), at(width - 1, y));
    for (let x = 1; x < width; x++) across.push(Math.abs(at(x, y) - at(x - 1, y)));
  }
  for (let x = 0; x < width; x++) {
    edges.push(at(x, 0), at(x, height - 1));
    for (let y = 1; y < height; y++) down.push(Math.abs(at(x, y) - at(x, y - 1)));
  }
  const figures = {
    brightness,
    contrast: Math.sqrt(mean(gray.map((value) => (value - brightness) ** 2))),
    "brightness at the edges": mean(edges),
    detail: ((mean(down) || 0) + (mean(across) || 0)) / 2,
  };
  if (bands === 3) figures.colour = colour / gray.length;
  return figures;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
