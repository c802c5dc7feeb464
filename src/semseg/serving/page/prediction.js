// Asks the server for a prediction, and reads its response.

export const CONFIDENCE = "application/x-npy; values=confidence; dtype=uint8";

/** What the server refuses, in its words; busy: whether it may be tried again, after `wait` seconds. */
export class Refusal extends Error {
  constructor(title, hint, busy, wait) {
    super(title);
    this.hint = hint;
    this.busy = busy;
    this.wait = wait;
  }
}

/** The response to the image `file` in the media type `accept`; raises Refusal. */
export async function ask(file, accept) {
  const headers = { Accept: accept, "Content-Type": "application/octet-stream" };
  const response = await reached(() => fetch("/invocations", { method: "POST", body: file, headers }));
  if (response.status === 204) throw new Refusal("The file is empty.", "Choose another one.", false, 0);
  return response;
}

/** The model that is served; raises Refusal while it is loading. */
export async function info() {
  return (await reached(() => fetch("/info"))).json();
}

async function reached(request) {
  let response;
  try {
    response = await request();
  } catch {
    throw new Refusal("The server cannot be reached.", "Is it still running?", true, 0);
  }
  if (response.ok) return response;
  const busy = response.status === 503 || response.status === 429;
  const wait = Number(response.headers.get("Retry-After")) || 0;
  try {
    const { error, hint } = await response.json();
    throw new Refusal(error, hint, busy, wait);
  } catch (failure) {
    if (failure instanceof Refusal) throw failure;
    throw new Refusal(`The server answered ${response.status}.`, "", busy, wait);
  }
}

/** Class ids and confidence (0 to 255) of each pixel, from a .npy file of uint8 (2, height, width). */
export function decode(buffer) {
  const length = new DataView(buffer).getUint16(8, true);
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, length));
  const sizes = /'\|u1'.*\(2, (\d+), (\d+)\)/.exec(header);
  if (!sizes) throw new Error("The response is not the expected array.");
  const [height, width] = [Number(sizes[1]), Number(sizes[2])];
  const pixels = height * width;
  return {
    height,
    width,
    ids: new Uint8Array(buffer, 10 + length, pixels),
    confidence: new Uint8Array(buffer, 10 + length + pixels, pixels),
  };
}
