import { TokenmillError } from "./errors";
import type { NativeDevice, NativeLoadOptions } from "./native";
import type { DeviceChoice, LogEvent } from "./options";

/** What native code is told of a device, and of "auto" why it need not look for a GPU. */
export interface ChosenDevice {
  options: Pick<NativeLoadOptions, "device" | "deviceIndex" | "deviceLibrary">;
  missing?: string;
}

const cudaPackage = "tokenmill-cuda-linux-x64";

/** The CUDA backend's library, from its package or where `TOKENMILL_CUDA_LIBRARY` says; else what is missing. */
function findCudaLibrary(): { path: string } | { missing: string } {
  const path = process.env.TOKENMILL_CUDA_LIBRARY;
  if (path) return { path };
  const { platform, arch } = process;
  if (`${platform}-${arch}` !== "linux-x64")
    return { missing: `there is no CUDA library for ${platform}-${arch}` };
  try {
    return { path: require.resolve("tokenmill-cuda-linux-x64") };
  } catch {
    return { missing: `the package ${cudaPackage} is not installed` };
  }
}

/**
 * Where a checked choice of device leads. With "auto" and no library that is the CPU.
 *
 * @throws TokenmillError DeviceUnavailable when a GPU is asked for and there is no library for it
 */
export function chooseDevice(choice: DeviceChoice = "auto"): ChosenDevice {
  if (choice === "cpu") return { options: {} };
  const library = findCudaLibrary();
  if ("path" in library) {
    const [device, index] = choice.split(":") as ["auto" | "cuda", string | undefined];
    return {
      options: {
        device,
        deviceLibrary: library.path,
        ...(index !== undefined ? { deviceIndex: Number(index) } : {}),
      },
    };
  }
  if (choice === "auto") return { options: {}, missing: library.missing };
  throw new TokenmillError(
    "DeviceUnavailable",
    `device is "${choice}" but ${library.missing}. Install the package (npm install ${cudaPackage}; Linux on x64), ` +
      `name a library's file in TOKENMILL_CUDA_LIBRARY, or load with device "cpu"`,
  );
}

/** What a log should say of the device that a model got. A library that is there and of no use is worth a warning. */
export function deviceEvents(device: NativeDevice, missing?: string): LogEvent[] {
  if (device.type === "cuda") {
    const { index, name, computeCapability, reason } = device;
    const message = `device: cuda:${index}, ${name}, compute capability ${computeCapability}: ${reason}`;
    return [{ level: "info", message }];
  }
  const { isa, reason, problem } = device;
  const events: LogEvent[] = [
    { level: isa === "reference" ? "warn" : "info", message: `device: cpu, ${isa}: ${reason}` },
  ];
  if (problem) events.push({ level: "warn", message: `no GPU is used: ${problem}` });
  if (missing !== undefined) events.push({ level: "debug", message: `no GPU is used: ${missing}` });
  return events;
}
