import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { TokenmillError } from "../errors";
import type { SourceOptions } from "../options";
import type { Mirror } from "./aliases";
import { isLeftover } from "./cache";
import type { TransferContext } from "./download-file";
import { allowedMirrors, isOffline, type MirrorKind } from "./environment";
import { DownloadFailure, describeDiskFailure } from "./failure";
import { FileLock } from "./file-lock";
import { fetchFromHub } from "./hub";
import { Network, type NetworkLimits } from "./network";
import { ProgressMeter } from "./progress-meter";
import { fetchFromIndex } from "./pypi";
import type { FetchTarget } from "./target";

/** Until a connection stands: a mirror that does not give one is left soon while there is another. */
const connectMs = { whileOthersRemain: 1_700, atLast: 10_000 };
const answerMs: Record<MirrorKind, number> = { hf: 10_000, pypi: 30_000 };

async function isComplete({ path, bytes }: FetchTarget): Promise<boolean> {
  const state = await stat(path).catch(() => undefined);
  return state?.isFile() === true && (bytes === undefined || state.size === bytes);
}

function mirrorsToTry(target: FetchTarget): Mirror[] {
  if (isOffline()) {
    throw new TokenmillError(
      "Download",
      `${target.name} is not in the cache, and TOKENMILL_OFFLINE forbids to download it`,
    );
  }
  const allowed = allowedMirrors();
  const mirrors = target.mirrors.filter(({ kind }) => allowed.has(kind));
  if (mirrors.length > 0) return mirrors;
  const kinds = target.mirrors.map(({ kind }) => `"${kind}"`).join(" and ");
  const setting = `TOKENMILL_MIRRORS=${process.env.TOKENMILL_MIRRORS}`;
  throw new TokenmillError("Download", `${target.name} comes from ${kinds} alone, which ${setting} excludes`);
}

async function fetchFromMirror(
  mirror: Mirror,
  target: FetchTarget,
  context: Omit<TransferContext, "network">,
  limits: NetworkLimits,
) {
  const network = new Network(limits);
  try {
    const withNetwork = { ...context, network };
    if (mirror.kind === "hf") await fetchFromHub(mirror, target, withNetwork);
    else await fetchFromIndex(mirror.parts, target, withNetwork);
  } catch (error) {
    throw describeDiskFailure(error, target.path, target.bytes);
  } finally {
    await network.close();
  }
}

/** The error of a target that no mirror gave. */
function describeFailures(
  target: FetchTarget,
  failures: DownloadFailure[],
  mirrors: Mirror[],
): TokenmillError {
  const [only] = failures;
  const code = failures.every(({ status }) => status === 404) ? "ModelNotFound" : "Download";
  if (only !== undefined && failures.length === 1) {
    return new TokenmillError(code, `Could not get ${target.name}: ${only.message}`, { cause: only });
  }
  const reasons = failures.map((failure, position) => `from ${mirrors[position]?.kind}: ${failure.message}`);
  return new TokenmillError(code, `Could not get ${target.name} ${reasons.join("; ")}`, {
    cause: new AggregateError(failures, `${failures.length} mirrors failed`),
  });
}

async function fetchFromMirrors(
  target: FetchTarget,
  context: Omit<TransferContext, "network">,
): Promise<void> {
  const mirrors = mirrorsToTry(target);
  const failures: DownloadFailure[] = [];
  for (const mirror of mirrors) {
    const limits = {
      connectMs: mirror === mirrors.at(-1) ? connectMs.atLast : connectMs.whileOthersRemain,
      answerMs: answerMs[mirror.kind],
    };
    try {
      await fetchFromMirror(mirror, target, context, limits);
      return;
    } catch (error) {
      if (!(error instanceof DownloadFailure) || error.kind === "disk") throw error;
      failures.push(error);
      context.onLog?.({ level: "info", message: `No ${target.name} from ${mirror.kind}: ${error.message}` });
    }
  }
  throw describeFailures(target, failures, mirrors);
}

/** Deletes what downloads of a target leave beside it. */
async function removeLeftovers({ path }: FetchTarget): Promise<void> {
  const prefix = `${basename(path)}.`;
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(prefix) || !isLeftover(name) || name.startsWith(`${prefix}lock`)) continue;
    await rm(join(dirname(path), name), { recursive: true, force: true });
  }
}

/** Fetches under the lock; false when another process has taken it over meanwhile. */
async function fetchHolding(
  lock: FileLock,
  target: FetchTarget,
  meter: ProgressMeter,
  options: SourceOptions,
) {
  const signals = options.signal === undefined ? [lock.lost] : [lock.lost, options.signal];
  const onBytes = (loaded: number, total: number) => {
    lock.report(loaded, total);
    meter.update(loaded, total);
  };
  try {
    const { onLog } = options;
    await fetchFromMirrors(target, { lock, signal: AbortSignal.any(signals), onLog, onBytes });
    await removeLeftovers(target);
    return true;
  } catch (error) {
    if (lock.lost.aborted && !options.signal?.aborted) return false;
    throw error;
  }
}

/**
 * Makes sure that a target is in the cache. Of several processes that want it, one fetches and the others
 * wait for it; when that one dies, another goes on where it stopped.
 */
export async function fetchTarget(target: FetchTarget, options: SourceOptions): Promise<void> {
  const isDone = () => isComplete(target);
  if (await isDone()) return;
  mirrorsToTry(target);
  const meter = new ProgressMeter(basename(target.path), options.onProgress);
  const onWait = (loaded: number, total: number) => meter.update(loaded, total);
  try {
    await mkdir(dirname(target.path), { recursive: true });
    for (;;) {
      const { signal } = options;
      const lock = await FileLock.acquire(`${target.path}.lock`, { signal, isDone, onWait });
      if (lock === undefined) return;
      try {
        if ((await isDone()) || (await fetchHolding(lock, target, meter, options))) return;
      } finally {
        await lock.release();
      }
    }
  } catch (error) {
    throw describeDiskFailure(error, target.path, target.bytes);
  }
}
