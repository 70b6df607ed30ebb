interface Listening {
  callbacks: Set<() => void>;
  listener: () => void;
}

/** One listener a signal, however many replies share it: Node warns of a leak where there are more than ten. */
const listening = new WeakMap<AbortSignal, Listening>();

function listen(signal: AbortSignal): Listening {
  const callbacks = new Set<() => void>();
  const listener = () => {
    for (const callback of callbacks) callback();
  };
  signal.addEventListener("abort", listener, { once: true });
  return { callbacks, listener };
}

/**
 * Calls `callback` when `signal` fires, until the function that it gives back is called. Then nothing refers
 * to the callback any more, and once none is left the signal has no listener either.
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const shared = listening.get(signal) ?? listen(signal);
  listening.set(signal, shared);
  shared.callbacks.add(callback);
  return () => {
    if (!shared.callbacks.delete(callback) || shared.callbacks.size > 0) return;
    signal.removeEventListener("abort", shared.listener);
    if (listening.get(signal) === shared) listening.delete(signal);
  };
}
