import type { ChatMessage } from "../chat-message";

/** What happens when a conversation outgrows the context. */
export type Overflow = "error" | "dropOldestTurns" | "slidingWindow";

/** Where the turns of a conversation begin: after its leading system messages, and at each further user message. */
function turnStarts(messages: readonly ChatMessage[]): { head: number; starts: number[] } {
  const first = messages.findIndex(({ role }) => role !== "system");
  const head = first < 0 ? messages.length : first;
  const starts = [head];
  for (let i = head + 1; i < messages.length; i++) if (messages[i]?.role === "user") starts.push(i);
  return { head, starts };
}

function commonPrefix(a: Int32Array, b: Int32Array): number {
  let common = 0;
  while (common < a.length && common < b.length && a[common] === b[common]) common++;
  return common;
}

/** The beginning that both prompts share, and behind it as many of the last tokens of the longer one as fit. */
function slide(longer: Int32Array, shorter: Int32Array, room: number): Int32Array {
  const head = commonPrefix(longer, shorter);
  const prompt = new Int32Array(room);
  prompt.set(longer.subarray(0, head));
  prompt.set(longer.subarray(longer.length - (room - head)), head);
  return prompt;
}

/**
 * The prompt of a conversation within `room` tokens: all of it, or without the fewest oldest turns. With
 * "slidingWindow" the youngest of these is there in part: its last tokens follow what the two prompts, with and without
 * it, both begin with. Leading system messages and the last turn always stay, also where they do not fit.
 *
 * `tokensOf` makes the prompt of messages, or nothing where they are too long for one.
 */
export async function fitPrompt(
  messages: readonly ChatMessage[],
  overflow: Exclude<Overflow, "error">,
  room: number,
  tokensOf: (messages: readonly ChatMessage[]) => Promise<Int32Array | undefined>,
): Promise<Int32Array | undefined> {
  const { head, starts } = turnStarts(messages);
  const without = (dropped: number) =>
    tokensOf(dropped === 0 ? messages : [...messages.slice(0, head), ...messages.slice(starts[dropped])]);
  let longer = await without(0);
  if ((longer && longer.length <= room) || starts.length === 1) return longer;
  let [tooFew, enough] = [0, starts.length - 1];
  let fitting = await without(enough);
  if (!fitting || fitting.length > room) return fitting;
  while (enough - tooFew > 1) {
    const middle = (tooFew + enough) >> 1;
    const tokens = await without(middle);
    if (tokens && tokens.length <= room) [enough, fitting] = [middle, tokens];
    else [tooFew, longer] = [middle, tokens];
  }
  return overflow === "slidingWindow" && longer ? slide(longer, fitting, room) : fitting;
}
