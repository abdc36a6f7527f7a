// The golden examples of a bundle in this browser; what came of them is posted to ./result.

import { isPng } from "./png.js";
import { image } from "./resampling.js";

const report = { examples: [] };
try {
  const { open } = await import("./here.js");
  const network = await open();
  const golden = await (await fetch("model/golden/golden.json")).json();
  const pixels = tensors(new Uint8Array(await (await fetch("model/golden/pixels.safetensors")).arrayBuffer()));
  const [, height, width, bands] = pixels.images.shape;
  const size = height * width * bands;
  for (const [place, { file }] of golden.entries()) {
    const levels = pixels.images.bytes.slice(place * size, (place + 1) * size);
    const said = await network.asked(image(width, height, bands, levels));
    const bytes = new Uint8Array(await (await fetch(`model/${file}`)).arrayBuffer());
    const { picture, ...answer } = await network.predict(bytes, file.split("/").at(-1));
    report.examples.push({
      file,
      exact: isPng(bytes),
      probabilities: said.probabilities,
      novelty: said.novelty,
      answer,
      levels: picture ? apart(picture.levels, levels) : null,
    });
  }
} catch (error) {
  report.error = `${error.message ?? error}`;
}
await fetch("result", { method: "POST", body: JSON.stringify(report) });
document.getElementById("result").textContent = report.error ?? `${report.examples.length} examples.`;

function apart(levels, others) {
  let [largest, sum] = [0, 0];
  levels.forEach((level, place) => {
    const difference = Math.abs(level - others[place]);
    largest = Math.max(largest, difference);
    sum += difference;
  });
  return { largest, mean: sum / levels.length };
}

// A safetensors file: the length of its header, the header in JSON, then the bytes of all arrays.
function tensors(file) {
  const length = Number(new DataView(file.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
  delete header.__metadata__;
  return Object.fromEntries(Object.entries(header).map(([name, { shape, data_offsets: [from, to] }]) =>
    [name, { shape, bytes: file.subarray(8 + length + from, 8 + length + to) }]));
}
