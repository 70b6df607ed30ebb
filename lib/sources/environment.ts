import { TokenmillError } from "../errors";

/** The kinds of mirror that there are. */
export const mirrorKinds = ["hf", "pypi"] as const;
export type MirrorKind = (typeof mirrorKinds)[number];

/** Whether TOKENMILL_OFFLINE forbids every use of the network. */
export function isOffline(): boolean {
  return /^(1|true|yes|on)$/i.test(process.env.TOKENMILL_OFFLINE ?? "");
}

/** The mirrors that TOKENMILL_MIRRORS, a comma-separated list, allows; all of them where it is not set. */
export function allowedMirrors(): ReadonlySet<MirrorKind> {
  const names = (process.env.TOKENMILL_MIRRORS ?? "").split(",").map((name) => name.trim().toLowerCase());
  const allowed = new Set<MirrorKind>();
  for (const name of names.filter((name) => name !== "")) {
    const kind = mirrorKinds.find((known) => known === name);
    if (kind === undefined) {
      throw new TokenmillError(
        "InvalidArgument",
        `TOKENMILL_MIRRORS names "${name}"; expected a comma-separated list of ${mirrorKinds.join(", ")}`,
      );
    }
    allowed.add(kind);
  }
  return allowed.size === 0 ? new Set(mirrorKinds) : allowed;
}
