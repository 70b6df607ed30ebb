import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { it } from "node:test";
import { dist } from "./dist.mjs";

const { strftime } = dist("./chat/strftime.js");
const cases = JSON.parse(readFileSync(new URL("fixtures/strftime.json", import.meta.url), "utf8"));

it("dates are written as Python writes them", () => {
  for (const { date, format, text } of cases) {
    const [year, month, ...rest] = date;
    assert.equal(strftime(new Date(year, month - 1, ...rest), format), text, `${date} as ${format}`);
  }
});

it("unknown directives stay", () => {
  assert.equal(strftime(new Date(2024, 0, 1), "%Q %-Z %"), "%Q %-Z %");
});
