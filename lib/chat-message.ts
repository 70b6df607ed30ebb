/** A piece of a message. Image and audio parts are part of the interface; models that take them are not built yet. */
export type ContentPart =
  | { type: "text"; text: string }
  | { type: "image"; data: Uint8Array | string; mediaType?: string }
  | { type: "audio"; data: Uint8Array | string; mediaType?: string };

export interface ChatMessage {
  role: "system" | "user" | "assistant" | (string & {});
  content: string | ContentPart[];
}
