import { closeSync, openSync, readSync } from "node:fs";

const sizes = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
const string = 8;
const array = 9;

/** The string-valued metadata of a GGUF file that is known to be sound. */
export function readGgufStrings(path) {
  const header = Buffer.alloc(8 << 20);
  const descriptor = openSync(path, "r");
  readSync(descriptor, header, 0, header.length, 0);
  closeSync(descriptor);
  let at = 16;
  const skip = (bytes) => {
    at += bytes;
    return at - bytes;
  };
  const u32 = () => header.readUInt32LE(skip(4));
  const u64 = () => Number(header.readBigUInt64LE(skip(8)));
  const text = () => {
    const length = u64();
    const start = skip(length);
    return header.toString("utf8", start, at);
  };
  const value = (type) => {
    if (type === string) return text();
    if (type !== array) {
      skip(sizes[type]);
      return undefined;
    }
    const element = u32();
    for (let count = u64(); count > 0; --count) value(element);
    return undefined;
  };
  const strings = {};
  for (let count = u64(); count > 0; --count) {
    const key = text();
    strings[key] = value(u32());
  }
  return strings;
}
