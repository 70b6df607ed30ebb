// Every opcode the translator knows: base name → function (Instruction) → C++.
import { arithmetic } from "./arithmetic.mjs";
import { compare } from "./compare.mjs";
import { conversions } from "./convert.mjs";
import { flow } from "./flow.mjs";
import { logic } from "./logic.mjs";
import { memory } from "./memory.mjs";
import { warp } from "./warp.mjs";

export const instructions = new Map(
  Object.entries({ ...arithmetic, ...logic, ...compare, ...conversions, ...memory, ...warp, ...flow }),
);
