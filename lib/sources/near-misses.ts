/** The number of letters to insert, delete, replace or swap to get from `a` to `b`. */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const replaced = (previous[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      const shifted = Math.min(previous[column] ?? 0, current[column - 1] ?? 0) + 1;
      const isSwap = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      const swapped = isSwap ? (beforePrevious[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY;
      current.push(Math.min(replaced, shifted, swapped));
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[b.length] ?? 0;
}

const withoutPunctuation = (text: string) => text.toLowerCase().replace(/[^a-z0-9]/g, "");

/** The names that someone who wrote `name` may have meant, nearest first. */
export function nearMisses(name: string, names: readonly string[]): string[] {
  const written = withoutPunctuation(name);
  if (written === "") return [];
  const isPart = (a: string, b: string) =>
    Math.min(a.length, b.length) >= 4 && (a.includes(b) || b.includes(a));
  return names
    .map((candidate) => {
      const text = withoutPunctuation(candidate);
      const distance = editDistance(written, text);
      return { candidate, distance, isNear: distance <= Math.ceil(text.length / 4) || isPart(written, text) };
    })
    .filter(({ isNear }) => isNear)
    .sort((a, b) => a.distance - b.distance)
    .map(({ candidate }) => candidate);
}
