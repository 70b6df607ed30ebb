import { readdir, stat } from "node:fs/promises";
import { basename, join, relative, resolve, sep } from "node:path";
import envPaths from "env-paths";
import type { AliasTable } from "./aliases";
import type { HubFile, WheelMember } from "./source";

/** The folder where downloaded files are kept: TOKENMILL_CACHE, else the platform's place for caches. */
export function cacheFolder(): string {
  const configured = process.env.TOKENMILL_CACHE;
  return configured ? resolve(configured) : envPaths("tokenmill", { suffix: "" }).cache;
}

/** Writes what no file system may hold in a name as %XX, as well as the separators; reversible. */
function encodeSegment(text: string): string {
  return encodeURIComponent(text).replace(/[*'()!]|\.$/g, (character) => {
    return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
  });
}

function encodePath(path: string): string[] {
  return path.split("/").map(encodeSegment);
}

export function aliasPath(alias: string, file: string, sha256: string): string {
  return join(cacheFolder(), "alias", encodeSegment(alias), sha256.slice(0, 16), encodeSegment(file));
}

export function hubFilePath({ owner, repository, revision, file }: HubFile): string {
  return join(cacheFolder(), "hf", owner, repository, encodeSegment(revision), ...encodePath(file));
}

export function wheelMemberPath({ package: name, version = "newest", member }: WheelMember): string {
  return join(cacheFolder(), "pypi", encodeSegment(name), encodeSegment(version), ...encodePath(member));
}

const leftoverPattern =
  /\.(lock(\.[\w.-]+)?|extract|pip(\.[\w.-]+)?|partial(\.json)?|[^\\/]+\.whl(\.partial(\.json)?)?)$/;

/** Whether a file of the cache belongs to a download that is not finished. */
export function isLeftover(path: string): boolean {
  return leftoverPattern.test(basename(path));
}

/** A finished file in the cache. */
export interface CachedFile {
  /** The source string that gives this file; undefined for an alias that now stands for other bytes. */
  source?: string;
  path: string;
  bytes: number;
  modified: Date;
}

function decodeSegments(segments: string[]): string[] {
  try {
    return segments.map(decodeURIComponent);
  } catch {
    return []; // Not a name that was written here.
  }
}

/** The source string of a path below the cache folder. */
function sourceOf(segments: string[], aliases: AliasTable): string | undefined {
  const [kind, ...rest] = decodeSegments(segments);
  const [first = "", second = "", third = "", ...others] = rest;
  if (kind === "alias") return aliases[first]?.sha256.startsWith(second) ? first : undefined;
  if (kind === "hf") return `hf:${first}/${second}/${others.join("/")}${third === "main" ? "" : `@${third}`}`;
  if (kind !== "pypi") return undefined;
  const member = [third, ...others].join("/");
  return second === "newest" ? `pypi:${first}/${member}` : `pypi:${first}==${second}/${member}`;
}

/** Every finished file of the cache, by path. */
export async function listCachedFiles(aliases: AliasTable): Promise<CachedFile[]> {
  const folder = cacheFolder();
  const files: CachedFile[] = [];
  for (const kind of ["alias", "hf", "pypi"]) {
    const root = join(folder, kind);
    const names = await readdir(root, { recursive: true }).catch(() => []);
    for (const name of names.sort()) {
      const path = join(root, name);
      const state = await stat(path).catch(() => undefined);
      if (state === undefined || !state.isFile() || isLeftover(path)) continue;
      const source = sourceOf(relative(folder, path).split(sep), aliases);
      files.push({
        path,
        bytes: state.size,
        modified: state.mtime,
        ...(source === undefined ? {} : { source }),
      });
    }
  }
  return files;
}
