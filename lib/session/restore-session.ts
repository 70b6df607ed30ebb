import { TokenmillError } from "../errors";
import { invalid } from "../validate";
import { readSessionOptions, type SessionParts } from "./check-session";
import { Session } from "./session";
import type { SessionHost } from "./session-host";

function partsOf(host: SessionHost, state: string): SessionParts {
  try {
    const { messages, options, adapters = [] } = JSON.parse(state);
    const found = adapters.length > 0 ? { adapter: host.findAdapters(adapters) } : {};
    const parts = readSessionOptions({ ...options, ...found, messages });
    return { ...parts, adapters: host.markAdapters(found.adapter) };
  } catch (cause) {
    if (TokenmillError.isInstance(cause) && cause.code === "Incompatible") throw cause;
    throw new TokenmillError(
      "CorruptFile",
      `the snapshot's messages or options are not what a session writes: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** A session from a snapshot; nothing has changed when it is refused. */
export async function restoreSession(host: SessionHost, snapshot: Uint8Array): Promise<Session> {
  host.checkUsable();
  if (!(snapshot instanceof Uint8Array)) throw invalid("snapshot", snapshot, "a Buffer or Uint8Array");
  const { state, pages } = await host.openSnapshot(snapshot);
  const parts = partsOf(host, state);
  const hold = host.newHold();
  await host.importHold(hold, pages, parts.defaults.cacheSalt ?? "", parts.adapters);
  return new Session(host, hold, parts);
}
