import { TokenmillError } from "../errors";
import type { ToolDefinition } from "../tool-definition";
import { invalid } from "../validate";
import { defineEntry, type JsonObject, type JsonValue } from "./json-value";

/** What tool definitions may take. All are far above what models make use of. */
export const toolLimits = {
  tools: 1024,
  nameCharacters: 256,
  depth: 32,
  /** Of names, keys, texts and other values together, about as JSON has them. */
  characters: 1 << 20,
} as const;

/** Copies values as JSON has them, up to a length. */
class JsonCopier {
  #left: number = toolLimits.characters;

  copy(value: unknown, path: string, depth = 0): JsonValue {
    this.#take(1, path);
    if (depth > toolLimits.depth) throw refused(`${path} nests too deeply, or refers to itself`);
    if (value === null || typeof value === "boolean") return value;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    if (typeof value === "string") {
      this.#take(value.length, path);
      return value;
    }
    if (Array.isArray(value)) {
      return Array.from(value, (item, index) => this.copy(item, `${path}[${index}]`, depth + 1));
    }
    if (typeof value === "object" && [Object.prototype, null].includes(Object.getPrototypeOf(value)))
      return this.#object(value as object, path, depth);
    throw invalid(path, value, "what JSON has: plain objects, arrays, strings, numbers, true, false or null");
  }

  #object(value: object, path: string, depth: number): JsonObject {
    const object: JsonObject = {};
    for (const [key, item] of Object.entries(value)) {
      if (item === undefined) continue; // as JSON.stringify
      this.#take(key.length, path);
      defineEntry(object, key, this.copy(item, `${path}.${key.slice(0, 40)}`, depth + 1));
    }
    return object;
  }

  #take(characters: number, path: string): void {
    this.#left -= characters;
    if (this.#left >= 0) return;
    throw refused(`the tools have more than ${toolLimits.characters} characters, at ${path.slice(0, 200)}`);
  }
}

function refused(message: string): TokenmillError {
  return new TokenmillError("InvalidArgument", message);
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function checkTool(tool: JsonValue, path: string): void {
  if (!isObject(tool)) throw invalid(path, tool, 'a tool { type: "function", function: { name, … } }');
  if (tool.type !== "function") throw invalid(`${path}.type`, tool.type, '"function"');
  const { function: definition } = tool;
  if (!isObject(definition))
    throw invalid(`${path}.function`, definition, "an object { name, description?, parameters? }");
  const { name, description, parameters } = definition;
  if (typeof name !== "string" || name === "" || name.length > toolLimits.nameCharacters) {
    const expected = `a string of 1 to ${toolLimits.nameCharacters} characters`;
    throw invalid(`${path}.function.name`, name, expected);
  }
  if (description !== undefined && typeof description !== "string")
    throw invalid(`${path}.function.description`, description, "a string");
  if (parameters !== undefined && !isObject(parameters))
    throw invalid(`${path}.function.parameters`, parameters, "an object: a JSON schema of the arguments");
}

/**
 * Checks tool definitions and copies them as plain data; undefined for none. Further properties are passed on to the
 * template.
 *
 * @throws TokenmillError InvalidArgument naming the place
 */
export function readTools(tools: readonly ToolDefinition[] | undefined): JsonObject[] | undefined {
  if (tools === undefined) return undefined;
  if (!Array.isArray(tools)) throw invalid("tools", tools, "an array of tool definitions");
  if (tools.length > toolLimits.tools)
    throw refused(`tools has ${tools.length} definitions; expected at most ${toolLimits.tools}`);
  const copies = new JsonCopier().copy(tools, "tools") as JsonObject[];
  for (const [index, tool] of copies.entries()) checkTool(tool, `tools[${index}]`);
  return copies.length > 0 ? copies : undefined;
}
