import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Runs `python -m pip` and gives its standard output. Rejects as execFile does. */
export async function runPip(
  parameters: string[],
  options: { signal: AbortSignal; timeoutMs?: number },
): Promise<string> {
  const python = process.platform === "win32" ? "python" : "python3";
  const { stdout } = await run(python, ["-m", "pip", "--disable-pip-version-check", ...parameters], {
    signal: options.signal,
    timeout: options.timeoutMs ?? 0,
    maxBuffer: 16 << 20,
    windowsHide: true,
  });
  return stdout;
}
