import type { SingleBar } from "cli-progress";
import type { Progress } from "../options";
import { formatBytes } from "./text";

const verbs = { download: "Downloading", load: "Loading", quantize: "Quantizing" };

/** A load that is done sooner gets no bar. */
const loadNoticeMs = 500;

function createBar(verb: string): SingleBar {
  const { SingleBar, Presets } = require("cli-progress") as typeof import("cli-progress");
  const options = {
    format: `${verb} {file} [{bar}] {percentage}% {done} of {size}`,
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    barsize: 24,
    fps: 10,
  };
  return new SingleBar(options, Presets.legacy);
}

/**
 * Shows on stderr how a model comes: a bar at a terminal, elsewhere a line when a download starts and ends.
 */
export class ProgressDisplay {
  readonly #isTerminal = process.stderr.isTTY === true;
  #phase: Progress["phase"] | undefined;
  #phaseStartMs = 0;
  #bar: SingleBar | undefined;

  readonly update = (progress: Progress): void => {
    if (progress.phase !== this.#phase) {
      this.stop();
      this.#phase = progress.phase;
      this.#phaseStartMs = performance.now();
    }
    if (this.#isTerminal) this.#updateBar(progress);
    else this.#updateLines(progress);
  };

  /** Removes the bar. */
  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
    this.#phase = undefined;
  }

  #updateBar({ phase, loaded, total, file }: Progress): void {
    const isSlow = phase === "download" || performance.now() - this.#phaseStartMs > loadNoticeMs;
    if (!isSlow || (this.#bar === undefined && loaded === total)) return;
    const shown = {
      file: file.split(/[\\/]/).at(-1),
      done: formatBytes(loaded),
      size: total > 0 ? formatBytes(total) : "?",
    };
    if (this.#bar === undefined) {
      this.#bar = createBar(verbs[phase]);
      this.#bar.start(total, loaded, shown);
    }
    this.#bar.setTotal(total);
    this.#bar.update(loaded, shown);
  }

  #hasStarted = false;

  #updateLines({ phase, loaded, total, file }: Progress): void {
    if (phase !== "download") return;
    const size = total > 0 ? ` (${formatBytes(total)})` : "";
    if (!this.#hasStarted) process.stderr.write(`Downloading ${file}${size}\n`);
    else if (loaded === total) process.stderr.write(`Downloaded ${file}${size}\n`);
    this.#hasStarted = true;
  }
}
