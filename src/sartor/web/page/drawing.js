// A sheet of paper to draw on, with mouse, finger, pen or the arrow keys.

const PEN = 1 / 14;
const STEP = 1 / 28;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// `changed` is called whenever something was drawn; the paper is `paper` and the pen `ink`.
export function drawingOn(canvas, changed) {
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  let colours = { paper: "#fff", ink: "#000" };
  let empty = true;
  let last = null;
  let cursor = { x: 0.5, y: 0.5, down: false };

  function clear(dark) {
    colours = dark ? { paper: "#000", ink: "#fff" } : { paper: "#fff", ink: "#000" };
    context.fillStyle = colours.paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
    empty = true;
    cursor = { x: 0.5, y: 0.5, down: false };
  }

  function draw(from, to, pressure) {
    context.strokeStyle = colours.ink;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = canvas.width * PEN * (0.6 + 0.8 * pressure);
    context.beginPath();
    context.moveTo(from.x * canvas.width, from.y * canvas.height);
    context.lineTo(to.x * canvas.width, to.y * canvas.height);
    context.stroke();
    empty = false;
    changed();
  }

  const placeOf = (event) => {
    const frame = canvas.getBoundingClientRect();
    return {
      x: (event.clientX - frame.left) / frame.width,
      y: (event.clientY - frame.top) / frame.height,
    };
  };
  // A mouse has the pressure 0.5, which gives the usual breadth.
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    canvas.setPointerCapture(event.pointerId);
    last = placeOf(event);
    draw(last, last, event.pressure || 0.5);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last || !event.isPrimary) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    for (const move of moves.length ? moves : [event]) {
      const place = placeOf(move);
      draw(last, place, move.pressure || 0.5);
      last = place;
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => { last = null; });
  }
  canvas.addEventListener("keydown", (event) => {
    if (event.key === " ") {
      cursor.down = !cursor.down;
      if (cursor.down) draw(cursor, cursor, 0.5);
    } else if (MOVES[event.key]) {
      const [right, down] = MOVES[event.key];
      const next = {
        x: Math.min(1, Math.max(0, cursor.x + right * STEP)),
        y: Math.min(1, Math.max(0, cursor.y + down * STEP)),
        down: cursor.down,
      };
      if (cursor.down) draw(cursor, next, 0.5);
      cursor = next;
    } else {
      return;
    }
    event.preventDefault();
  });

  clear(false);
  return {
    clear,
    get empty() { return empty; },
    get pen() { return cursor; },
    bytes: () => bytesOf(canvas),
  };
}

// What a canvas shows, as the bytes of a PNG.
export function bytesOf(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob(async (blob) => {
      if (blob) resolve(new Uint8Array(await blob.arrayBuffer()));
      else reject(new Error("The picture is too large for the browser."));
    }, "image/png");
  });
}
