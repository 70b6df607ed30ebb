import { setTimeout as sleep } from "node:timers/promises";
import type { LogEvent } from "../options";
import { DownloadFailure, throwIfAborted } from "./failure";

const attemptsMaximum = 4;
const firstDelayMs = 250;
/** A server that wants a longer pause is treated as one that refuses. */
const delayMsMaximum = 30_000;

export interface RetryOptions {
  signal?: AbortSignal | undefined;
  onLog?: ((event: LogEvent) => void) | undefined;
  /** Whether the last attempt got far enough to count attempts from the start again. */
  hasProgressed?: () => boolean;
}

/** How long to wait before the next attempt; undefined when there is to be none. */
function delayBefore(attempt: number, failure: DownloadFailure): number | undefined {
  if (failure.kind !== "transient" || attempt >= attemptsMaximum) return undefined;
  const backoffMs = firstDelayMs * 2 ** (attempt - 1) * (1 + Math.random() / 4);
  const delayMs = Math.max(backoffMs, failure.retryAfterMs ?? 0);
  return delayMs <= delayMsMaximum ? delayMs : undefined;
}

/** Runs `attempt` until it succeeds, fails for good, or has failed too often; waits longer each time. */
export async function withRetries<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  for (let count = 1; ; count++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof DownloadFailure)) throw error;
      if (options.hasProgressed?.()) count = 1;
      const delayMs = delayBefore(count, error);
      if (delayMs === undefined) throw error;
      options.onLog?.({
        level: "info",
        message: `${error.message}; trying again in ${Math.round(delayMs)} ms`,
      });
      await sleep(delayMs, undefined, options.signal ? { signal: options.signal } : {}).catch(() => {});
      throwIfAborted(options.signal, "The download");
    }
  }
}
