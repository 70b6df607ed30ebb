import type { Progress } from "../options";

const intervalMs = 50;

/** Passes a download's progress on, at most once in 50 ms, and its end always. */
export class ProgressMeter {
  #reportedMs = Number.NEGATIVE_INFINITY;
  #last = { loaded: -1, total: -1 };
  readonly #file: string;
  readonly #onProgress: ((progress: Progress) => void) | undefined;

  constructor(file: string, onProgress: ((progress: Progress) => void) | undefined) {
    this.#file = file;
    this.#onProgress = onProgress;
  }

  /** `total` is 0 while it is not known. */
  update(loaded: number, total: number): void {
    const nowMs = performance.now();
    const isEnd = total > 0 && loaded === total;
    if (!isEnd && nowMs - this.#reportedMs < intervalMs) return;
    if (loaded === this.#last.loaded && total === this.#last.total) return;
    this.#reportedMs = nowMs;
    this.#last = { loaded, total };
    this.#onProgress?.({ phase: "download", loaded, total, file: this.#file });
  }
}
