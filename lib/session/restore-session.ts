import { TokenmillError } from "../errors";
import { invalid } from "../validate";
import { readSessionOptions, type SessionParts } from "./check-session";
import { Session } from "./session";
import type { SessionHost } from "./session-host";

function partsOf(state: string): SessionParts {
  try {
    const { messages, options } = JSON.parse(state);
    return readSessionOptions({ ...options, messages });
  } catch (cause) {
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
  const parts = partsOf(state);
  const hold = host.newHold();
  await host.importHold(hold, pages, parts.defaults.cacheSalt ?? "");
  return new Session(host, hold, parts);
}
