import { TemplateHost } from "../chat/template-host";
import type { AdapterFile } from "./adapter-spec";

/** Headers take milliseconds; a disk may be slow. */
const timeMs = 30_000;
const idleMs = 10_000;

let host: TemplateHost | undefined;

/** As `readAdapter`, on a thread of its own: neither the event loop nor chat templates wait for headers and disks. */
export function readAdapterBeside(
  path: string,
  folderName: string | undefined,
  signal: AbortSignal,
): Promise<AdapterFile> {
  host ??= new TemplateHost({ timeMs, idleMs });
  return host.run(() => ({ type: "adapter", path, folderName }), { signal });
}
