import { createRequire } from "node:module";
import * as imported from "tokenmill";
import { probe } from "./probe.cjs";

const required = createRequire(import.meta.url)("tokenmill");
await probe([imported, required], process.argv[2]);
