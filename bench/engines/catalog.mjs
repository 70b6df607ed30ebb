// The engines that the benchmark knows, and how each is started.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { provideNodePackage, providePython } from "./install.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));

/** Ours, which every ratio is about. */
export const oursName = "tokenmill";

function transformers(dtype) {
  return (options) => {
    const python = providePython("transformers", {
      modules: ["torch", "transformers", "gguf", "accelerate"],
      packages: ["torch==2.13.0", "transformers", "accelerate", "gguf"],
      ...options,
    });
    return { command: python, parameters: [join(here, "transformers_engine.py"), dtype] };
  };
}

/**
 * By name: `prepare` installs what is missing and gives the program to start, or throws an EngineError;
 * `isLlamaCpp` marks those of which the faster counts.
 */
export const engines = {
  [oursName]: {
    prepare: () => ({ command: process.execPath, parameters: [join(here, "tokenmill.mjs")] }),
  },
  "node-llama-cpp": {
    isLlamaCpp: true,
    prepare: (options) => {
      const folder = provideNodePackage("node-llama-cpp", "3.22", options);
      return { command: process.execPath, parameters: [join(here, "node-llama-cpp.mjs"), folder] };
    },
  },
  "llama-cpp-python": {
    isLlamaCpp: true,
    prepare: (options) => {
      // From source, so that it is compiled for this very CPU.
      const packages = ["--no-binary", "llama-cpp-python", "llama-cpp-python"];
      const python = providePython("llama", { modules: ["llama_cpp"], packages, ...options });
      return { command: python, parameters: [join(here, "llama_cpp_engine.py")] };
    },
  },
  "transformers-bf16": { prepare: transformers("bfloat16") },
  "transformers-f32": { prepare: transformers("float32") },
};
