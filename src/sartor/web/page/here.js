// The network in the browser: preprocess in JavaScript, model.onnx in ONNX Runtime.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import { answer } from "./answers.js";
import { differences } from "./familiarity.js";
import { prepared } from "./preprocess.js";

// One thread: more need a page that is isolated by headers, which few static hosts send.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("./ort/ort-wasm-simd-threaded.wasm", import.meta.url).href };

export async function open() {
  const record = await (await found("./model/bundle.json")).json();
  const model = new Uint8Array(await (await found("./model/model.onnx")).arrayBuffer());
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { record, models: [{ name: record.name ?? "model", ...record }], predict, asked };

  async function predict(bytes, file) {
    let picture;
    try {
      picture = await prepared(bytes, record.preprocess);
    } catch (error) {
      return { file, error: error.message };
    }
    const said = await asked(picture);
    const told = answer(file, said.probabilities, said.novelty, record);
    if (told.error) return told;
    return { ...told, unlike_training: differences(picture, record.input_ranges), picture };
  }

  // What the network says of pixels that are prepared.
  async function asked({ width, height, bands, levels }) {
    const images = new ort.Tensor("uint8", levels, [1, height, width, bands]);
    const { probabilities, novelty } = await session.run({ images });
    return { probabilities: Array.from(probabilities.data), novelty: novelty?.data[0] ?? null };
  }
}

async function found(path) {
  const response = await fetch(new URL(path, import.meta.url));
  if (!response.ok) throw new Error(`${path} is not there.`);
  return response;
}
