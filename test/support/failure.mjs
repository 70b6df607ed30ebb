import assert from "node:assert/strict";
import { TokenmillError } from "../../dist/index.mjs";

/** The library's error that a promise fails with. */
export async function failure(promise) {
  const error = await promise.then(
    () => assert.fail("expected a failure"),
    (reason) => reason,
  );
  assert.ok(TokenmillError.isInstance(error), String(error));
  return error;
}
