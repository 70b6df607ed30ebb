// The built library's modules, also those that it does not export.
import { createRequire } from "node:module";

export const dist = createRequire(new URL("../../../dist/index.js", import.meta.url));
