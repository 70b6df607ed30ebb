/** A release's place in the order of releases: epoch, then the numbers of the release. */
interface ReleaseOrder {
  numbers: number[];
  isPreRelease: boolean;
  /** The number after ".post"; -1 for none. */
  post: number;
}

function releaseOrder(version: string): ReleaseOrder | undefined {
  const match = /^v?(?:(\d+)!)?(\d+(?:\.\d+)*)(.*)$/.exec(version.toLowerCase());
  if (match === null) return undefined;
  const [, epoch = "0", release = "", suffix = ""] = match;
  const [, post] = /^[-_.]?(?:post|rev|r)[-_.]?(\d*)/.exec(suffix) ?? [];
  return {
    numbers: [Number(epoch), ...release.split(".").map(Number)],
    isPreRelease: /^[-_.]?(a|b|c|rc|alpha|beta|pre|preview|dev)/.test(suffix) || /dev/.test(suffix),
    post: post === undefined ? -1 : Number(post),
  };
}

function compare(a: ReleaseOrder, b: ReleaseOrder): number {
  const length = Math.max(a.numbers.length, b.numbers.length);
  for (let index = 0; index < length; index++) {
    const difference = (a.numbers[index] ?? 0) - (b.numbers[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.post - b.post;
}

/** The newest of some PEP 440 versions that is not a pre-release. */
export function newestVersion(versions: readonly string[]): string | undefined {
  let newest: { version: string; order: ReleaseOrder } | undefined;
  for (const version of versions) {
    const order = releaseOrder(version);
    if (order === undefined || order.isPreRelease) continue;
    if (newest === undefined || compare(order, newest.order) > 0) newest = { version, order };
  }
  return newest?.version;
}
