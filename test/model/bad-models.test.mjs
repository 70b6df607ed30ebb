// Files with a sound header that the model loader has to refuse: each with its code and reason.
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadModel, TokenmillError } from "../../dist/index.mjs";
import { temporaryFile } from "../support/models.mjs";
import { badFiles } from "../unit/gguf/bad-files.mjs";

for (const { name, bytes, code, message } of badFiles) {
  test(`${name}: ${code}`, async () => {
    const path = temporaryFile(bytes());
    const error = await loadModel(path).then(
      async (model) => {
        await model.dispose();
        assert.fail("it loaded");
      },
      (reason) => reason,
    );
    assert.ok(TokenmillError.isInstance(error), String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
  });
}
