// The project's text files, for the checks that read them.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../..", import.meta.url));

/** Files below folders whose names match, relative to the root, as { path, text, lines }. */
export function filesOf(folders, pattern) {
  return folders
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, name)),
    )
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => pattern.test(path))
    .sort()
    .map(readSource);
}

export function readSource(path) {
  const text = readFileSync(join(root, path), "utf8");
  return { path, text, lines: text.split("\n") };
}

const blank = (text) => text.replace(/[^\n]/g, " ");

/** C++ without comments and the contents of strings; lines keep their numbers. */
export function cppCode(text) {
  const token =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|R"([^\s()\\]*)\([\s\S]*?\)\1"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'/g;
  return text.replace(token, (match, _delimiter, offset) => {
    const isDigitSeparator = match.startsWith("'") && /[0-9a-fA-F]/.test(text[offset - 1] ?? "");
    return isDigitSeparator ? match : blank(match);
  });
}

/** TypeScript without comments; lines keep their numbers. */
export function typescriptCode(text) {
  return text.replace(/\/\*\*[\s\S]*?\*\/|(?<=^|[\s;{}])\/\/[^\n]*/g, blank);
}

/** "path:line: text" of each line of `code` that matches. */
export function linesMatching({ path, lines }, pattern, code) {
  return code
    .split("\n")
    .flatMap((line, i) => (pattern.test(line) ? [`${path}:${i + 1}: ${lines[i].trim()}`] : []));
}
