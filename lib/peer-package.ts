import { TokenmillError } from "./errors";

/** An optional peer package, which `load` requires; where it is missing, an error that says how to have it. */
export function peerPackage<T>(user: string, name: string, range: string, load: () => T): T {
  try {
    return load();
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException | undefined)?.code === "MODULE_NOT_FOUND";
    throw new TokenmillError(
      "Incompatible",
      `${user} needs the package ${name} (${range}), which ${isMissing ? "is not installed" : "cannot be loaded"}: ` +
        `npm install ${name}`,
      { cause },
    );
  }
}
