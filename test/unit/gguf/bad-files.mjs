import { badHeaders } from "./bad-headers.mjs";
import { badModels } from "./bad-models.mjs";

/**
 * Files that must be refused, each with how: rows of
 * - `name`: what is wrong with it, unique;
 * - `bytes()`: the file;
 * - `code`: the code of the error that it gives;
 * - `message`: what the error's message must match;
 * - `stage`: who sees it: "header", the GGUF reader; "model", only the loading of the model or its tokenizer.
 */
export const badFiles = [...badHeaders, ...badModels];
