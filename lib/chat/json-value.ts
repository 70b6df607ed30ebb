import { TokenmillError } from "../errors";

export type JsonValue = string | number | boolean | null | JsonValue[] | JsonObject;
export interface JsonObject {
  [key: string]: JsonValue;
}

const depthMax = 32;

/**
 * A copy of `value` as plain data; undefined for what JSON has no word for (functions, symbols, dates and
 * other class instances, numbers that are not finite). Throws InvalidArgument, naming `path`, for what nests
 * too deeply.
 */
export function toJsonValue(value: unknown, path: string, depth = 0): JsonValue | undefined {
  if (depth > depthMax) {
    throw new TokenmillError(
      "InvalidArgument",
      `${path} nests more than ${depthMax} levels deep, or refers to itself`,
    );
  }
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : undefined;
  if (Array.isArray(value)) {
    return value.map((item, index) => toJsonValue(item, `${path}[${index}]`, depth + 1) ?? null);
  }
  if (typeof value !== "object" || ![Object.prototype, null].includes(Object.getPrototypeOf(value)))
    return undefined;
  const object: JsonObject = {};
  for (const [key, item] of Object.entries(value)) {
    const copy = toJsonValue(item, `${path}.${key}`, depth + 1);
    if (copy !== undefined) defineEntry(object, key, copy);
  }
  return object;
}

/** Sets an own property also where the key is "__proto__". */
export function defineEntry(object: JsonObject, key: string, value: JsonValue): void {
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

/** A copy with every string and every key replaced; `key` is a string's nearest key, `parent` a key's. */
export function mapStrings(
  value: JsonValue,
  mapText: (text: string, key: string) => string,
  mapKey: (key: string, parent: string) => string,
  key = "",
): JsonValue {
  if (typeof value === "string") return mapText(value, key);
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, mapText, mapKey, key));
  if (typeof value !== "object" || value === null) return value;
  const object: JsonObject = {};
  for (const [name, item] of Object.entries(value)) {
    let mapped = mapKey(name, key);
    while (Object.hasOwn(object, mapped)) mapped += mapped.at(-1) ?? " "; // none gets lost
    defineEntry(object, mapped, mapStrings(item, mapText, mapKey, name));
  }
  return object;
}

/** Every string and key of a value. */
export function* stringsOf(value: JsonValue): Generator<string> {
  if (typeof value === "string") yield value;
  if (typeof value !== "object" || value === null) return;
  if (!Array.isArray(value)) yield* Object.keys(value);
  for (const item of Object.values(value)) yield* stringsOf(item);
}
