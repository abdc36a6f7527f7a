// What is said of one picture: the same document as `sartor predict --json` gives.

// `probabilities` (classes,) and the raw `novelty` score or null, after a bundle's record.
export function answer(file, probabilities, novelty, record) {
  if (!probabilities.every(Number.isFinite)) {
    return { file, error: "The network's outputs are not finite, so there is no prediction." };
  }
  const { classes, calibration } = record;
  const order = ranked(probabilities);
  const score = novelty !== null && Number.isFinite(novelty) ? novelty : null;
  return {
    file,
    label: classes[order[0]],
    probability: probabilities[order[0]],
    probabilities: Object.fromEntries(classes.map((name, place) => [name, probabilities[place]])),
    set: setOf(probabilities, order, calibration.set_threshold)?.map((place) => classes[place]) ?? null,
    novelty: score,
    novelty_percentile: score === null ? null : percentileOf(score, calibration.novelty),
    unknown: isUnknown(novelty, calibration.novelty),
  };
}

// Most probable first; of equal classes, the first.
export function ranked(probabilities) {
  return probabilities.map((_, place) => place)
    .sort((a, b) => probabilities[b] - probabilities[a] || a - b);
}

// A class joins where the probabilities before it add up to at most the threshold.
function setOf(probabilities, order, threshold) {
  if (threshold === null || threshold === undefined) return null;
  let before = 0;
  return order.filter((place) => {
    const joins = before <= threshold;
    before += probabilities[place];
    return joins;
  });
}

const NAMED = 10;

// A prediction set for people, of so many classes; of a long one the first.
export function setInWords(set, count) {
  if (set.length === count && count > 1) return "every class";
  const more = set.length - NAMED;
  return set.slice(0, NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

// How many of 100 validation images have at most this score; `table` ascends.
function percentileOf(score, fitted) {
  if (!fitted) return null;
  const single = Math.fround(score);
  const below = fitted.table.filter((value) => Math.fround(value) <= single).length;
  return (100 * below) / fitted.table.length;
}

function isUnknown(novelty, fitted) {
  if (novelty === null || !fitted || fitted.threshold === null) return null;
  return !(novelty <= Math.fround(fitted.threshold));
}
