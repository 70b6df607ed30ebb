const unprintable = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/** A line of a file's text for people to read: what would move a terminal's cursor or turn its writing is replaced. */
export function printable(text: string): string {
  return text.replace(unprintable, "\uFFFD");
}
