// What is computed once instead of again: prompts that have a beginning in common, and tokens that can be guessed.

const article = `The lighthouse at Cape Merrow was built in 1868 by Elias Thorne, an engineer from Halden, \
after three ships had been lost on the reef in a single winter. Its tower is 41 metres \
high and made of grey granite that was brought by barge from the quarries of Inverloch. \
The lamp burned whale oil at first, then paraffin from 1891 on, and was changed to \
electric light in 1934. Four keepers lived there with their families until 1987, when the \
light was made automatic. Since then the houses at its foot have been a small museum, \
which about twelve thousand people visit each year. The reef itself is a reserve for \
seals, and boats have to keep two hundred metres away from it between May and August. A \
storm in 2009 broke the lower gallery, which volunteers rebuilt with the help of the town \
of Merrow.`;

const program = `function average(numbers) {
  let total = 0;
  for (let i = 0; i < numbers.length; i++) {
    total += numbers[i];
  }
  return total / numbers.length;
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  if (sorted.length % 2 === 0) {
    return (sorted[middle - 1] + sorted[middle]) / 2;
  }
  return sorted[middle];
}`;

const letter = `Dear Ms. Abernathy,

Thank you for your order of the 14th of March. We are sorry to tell you that the blue armchair is \
out of stock and will not be available before the 2nd of May. The two oak shelves and the reading \
lamp will be sent to you this Friday by our carrier, who will call you an hour before arriving. If \
you would rather wait for the armchair and receive everything together, please let us know by \
Thursday noon.

With kind regards,
Thomas Whitfield`;

/** Prompts whose replies quote them more or less, and some whose replies do not. */
export const draftPrompts = [
  {
    id: "edit-letter",
    quotes: true,
    content: `Copy this letter word for word, but change the name of the sender to "Anna Whitfield":\n\n${letter}`,
  },
  {
    id: "split-text",
    quotes: true,
    content: `List the sentences of this text, one on each line, numbered:\n\n${article}`,
  },
  {
    id: "comment-code",
    quotes: true,
    content: `Add a comment above each function. Give the whole code again.\n\n${program}`,
  },
  { id: "summarize", quotes: true, content: `Summarize this text in a few sentences:\n\n${article}` },
  { id: "story", quotes: false, content: "Write a short story about a robot who learns to paint." },
  { id: "explain", quotes: false, content: "Explain how a bicycle stays upright." },
  { id: "list", quotes: false, content: "Which ten cities would you visit in Europe, and why?" },
];

export const draftTokens = 192;

/** The shared prefix: so many tokens, and each request's own suffix behind it. */
export const prefix = { tokens: 2000, suffix: 8, requests: 32, answer: 4 };

/** Forks of a conversation of so many tokens, the questions that a few of them get, and what is demanded of all. */
export const fork = {
  depth: 2000,
  count: 100,
  answer: 16,
  questions: ["How many ships on day 3?", "And on the next day?", "Who lit the lamp?"],
  demanded: { maxMs: 1, bytes: 1e6 },
};
