// The network behind the server that this page came from.

import { decodePng } from "./png.js";
import { image } from "./resampling.js";

export async function open() {
  const { models } = await asked("v1/models");
  return { record: models[0], models, predict };
}

async function predict(bytes, file, model) {
  const path = model ? `v1/models/${encodeURIComponent(model)}/predict` : "v1/predict";
  const body = new FormData();
  body.append("file", new Blob([bytes]), file);
  let answers;
  try {
    answers = await asked(`${path}?input=1`, { method: "POST", body });
  } catch (error) {
    return { file, error: error.message };
  }
  const { input, ...told } = answers.predictions[0];
  return input ? { ...told, picture: await pictureOf(input) } : told;
}

async function asked(path, options) {
  const headers = token() ? { authorization: `Bearer ${token()}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const document = await response.json().catch(() => ({}));
  if (response.ok) return document;
  const error = new Error(`${document.error ?? response.statusText} ${document.hint ?? ""}`.trim());
  error.status = response.status;
  throw error;
}

// For as long as this tab is open.
const token = () => sessionStorage.getItem("token");
export const keepToken = (value) => sessionStorage.setItem("token", value);

async function pictureOf(dataUrl) {
  const bytes = Uint8Array.from(atob(dataUrl.split(",")[1]), (letter) => letter.charCodeAt(0));
  const { width, height, bands, samples } = await decodePng(bytes);
  return image(width, height, bands, Uint8Array.from(samples));
}
