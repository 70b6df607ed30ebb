/** The candidate with the least time; a single one is not tried. */
export async function fastestOf(candidates, timeOf) {
  if (candidates.length === 1) return candidates[0];
  let best;
  for (const candidate of candidates) {
    const time = await timeOf(candidate);
    if (best === undefined || time < best.time) best = { candidate, time };
  }
  return best.candidate;
}
