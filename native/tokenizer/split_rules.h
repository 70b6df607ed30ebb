#pragma once

// The matchers behind the pre-tokenizers' table: hand-written equals of the split expressions. Each looks at
// characters at most a constant number of times. Included by pre_tokenizer.cc and nowhere else.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace tokenmill::split {

constexpr size_t kUnlimited = SIZE_MAX;
constexpr CharSet kEverything = 0x7FFF & ~chars::kNotNfc;

struct Char {
  CharSet set;      // one category bit; 0 at the end of the text
  uint32_t length;  // in bytes
};

/// A text and the classes of its characters.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text), table_(UnicodeTable::Get()) {}

  size_t size() const { return text_.size(); }
  /// The byte at `at`, or 0 past the end.
  uint8_t Byte(size_t at) const { return at < text_.size() ? static_cast<uint8_t>(text_[at]) : 0; }
  bool IsNewline(size_t at) const { return Byte(at) == '\r' || Byte(at) == '\n'; }

  uint32_t CodePoint(size_t at, uint32_t* length) const {
    *length = Utf8Length(static_cast<uint8_t>(text_[at]));
    return DecodeUtf8(text_.data() + at, *length);
  }

  Char At(size_t at) const {
    if (at >= text_.size()) return {0, 0};
    uint32_t length;
    const uint32_t code_point = CodePoint(at, &length);
    return {static_cast<CharSet>(table_[code_point] & kEverything), length};
  }

  /// The end of the run of characters of `set` from `at` on, at most `max` of them.
  size_t Run(size_t at, CharSet set, size_t max = kUnlimited) const {
    for (; max > 0; --max) {
      const Char c = At(at);
      if (!(c.set & set)) break;
      at += c.length;
    }
    return at;
  }

 private:
  std::string_view text_;
  const UnicodeTable& table_;
};

/// A FindMatch from a matcher at a position, which returns the end of its match or `at` for none.
template <size_t (*Match)(const Reader&, size_t)>
bool FindFirst(std::string_view text, size_t from, size_t* begin, size_t* end) {
  const Reader reader(text);
  for (size_t at = from; at < text.size(); at += Utf8Length(static_cast<uint8_t>(text[at]))) {
    *end = Match(reader, at);
    if (*end > at) {
      *begin = at;
      return true;
    }
  }
  return false;
}

/// `'s|'t|'re|'ve|'m|'ll|'d`, in any case if `fold` (then U+017F, the long s, is an s too).
template <bool fold>
size_t Contraction(const Reader& r, size_t at) {
  if (r.Byte(at) != '\'') return at;
  const auto letter = [&](size_t i) {
    const uint8_t byte = r.Byte(at + i);
    return fold && byte >= 'A' && byte <= 'Z' ? static_cast<uint8_t>(byte | 0x20) : byte;
  };
  const uint8_t first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return at + 3;
  if (first == 'l' && second == 'l') return at + 3;
  if (fold && first == 0xC5 && second == 0xBF) return at + 3;
  return at;
}

/// `\s+(?!\S)|\s+` at white space: a run leaves its last character to what follows, unless it is alone.
inline size_t Spaces(const Reader& r, size_t at) {
  size_t last = at;
  size_t end = at;
  for (Char c = r.At(end); c.set & chars::kSpace; c = r.At(end)) {
    last = end;
    end += c.length;
  }
  return end == r.size() || last == at ? end : last;
}

/// The same with `\s*[\r\n]+` before: a run with a line end goes up to its last line end.
inline size_t SpacesOrLines(const Reader& r, size_t at) {
  size_t last = at;
  size_t end = at;
  size_t line = at;
  for (Char c = r.At(end); c.set & chars::kSpace; c = r.At(end)) {
    last = end;
    end += c.length;
    if (r.IsNewline(last)) line = end;
  }
  if (line > at) return line;
  return end == r.size() || last == at ? end : last;
}

/// GPT-2: `'s|…|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
inline size_t Gpt2(const Reader& r, size_t at) {
  if (const size_t end = Contraction<false>(r, at); end > at) return end;
  Char c = r.At(at);
  size_t start = at;
  if (r.Byte(at) == ' ') {
    const Char next = r.At(at + 1);
    if (next.set == 0 || (next.set & chars::kSpace)) return Spaces(r, at);
    c = next;
    ++start;
  } else if (c.set & chars::kSpace) {
    return Spaces(r, at);
  }
  if (c.set & chars::kLetter) return r.Run(start, chars::kLetter);
  if (c.set & chars::kNumber) return r.Run(start, chars::kNumber);
  return r.Run(start, kEverything & ~(chars::kSpace | chars::kLetter | chars::kNumber));
}

inline bool FindGpt2(std::string_view text, size_t from, size_t* begin, size_t* end) {
  return FindFirst<Gpt2>(text, from, begin, end);
}

/// The family of GPT-4's first expression:
/// `contraction|[^\r\n<not_prefix>]?<word>+|\p{N}{1,digits_max}| ?<rest>+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
struct WordRules {
  bool contractions = true;
  bool punctuated_word = false;  // before all else: an ASCII punctuation mark and ASCII letters
  bool lines_after_rest = true;  // the `[\r\n]*`
  CharSet word = chars::kLetter;
  CharSet not_prefix = chars::kLetter | chars::kNumber;
  CharSet rest = kEverything & ~(chars::kSpace | chars::kLetter | chars::kNumber);
  size_t digits_max = 0;
};

inline bool IsAsciiLetter(uint8_t byte) { return static_cast<uint8_t>((byte | 0x20) - 'a') < 26; }

inline size_t PunctuatedWord(const Reader& r, size_t at) {
  const uint8_t mark = r.Byte(at);
  const bool punctuation =
      mark > 0x20 && mark < 0x7F && !IsAsciiLetter(mark) && !(mark >= '0' && mark <= '9');
  if (!punctuation || !IsAsciiLetter(r.Byte(at + 1))) return at;
  size_t end = at + 1;
  while (IsAsciiLetter(r.Byte(end))) ++end;
  return end;
}

template <WordRules rules>
size_t Word(const Reader& r, size_t at) {
  if constexpr (rules.contractions) {
    if (const size_t end = Contraction<true>(r, at); end > at) return end;
  }
  if constexpr (rules.punctuated_word) {
    if (const size_t end = PunctuatedWord(r, at); end > at) return end;
  }
  const Char c = r.At(at);
  if (c.set & rules.word) return r.Run(at + c.length, rules.word);
  const Char next = r.At(at + c.length);
  if ((next.set & rules.word) && !(c.set & rules.not_prefix) && !r.IsNewline(at)) {
    return r.Run(at + c.length, rules.word);
  }
  if (rules.digits_max > 0 && (c.set & chars::kNumber)) return r.Run(at, chars::kNumber, rules.digits_max);
  if ((c.set & rules.rest) || (r.Byte(at) == ' ' && (next.set & rules.rest))) {
    size_t end = r.Run(at + c.length, rules.rest);
    while (rules.lines_after_rest && r.IsNewline(end)) ++end;
    return end;
  }
  return c.set & chars::kSpace ? SpacesOrLines(r, at) : at;
}

template <WordRules rules>
bool FindWord(std::string_view text, size_t from, size_t* begin, size_t* end) {
  return FindFirst<Word<rules>>(text, from, begin, end);
}

/// The family of GPT-4o's expression, with U = upper-like and W = lower-like (uncased letters and marks are
/// both): `[^\r\n\p{L}\p{N}]?U*W+ contraction?|[^\r\n\p{L}\p{N}]?U+W* contraction?|\p{N}{1,digits_max}|
///  ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
struct CasedRules {
  bool contractions;
  size_t digits_max;
};

/// `U*W+` at `at`; gives back upper-case letters until the part before ends in a W, as backtracking would.
/// `*upper_end` is where U* ended.
inline size_t UpperThenLower(const Reader& r, size_t at, size_t* upper_end) {
  size_t last_lower = at;  // the end of the last character that is both U and W
  size_t end = at;
  for (Char c = r.At(end); c.set & chars::kUpperLike; c = r.At(end)) {
    end += c.length;
    if (c.set & chars::kLowerLike) last_lower = end;
  }
  *upper_end = end;
  const size_t lower_end = r.Run(end, chars::kLowerLike);
  return lower_end > end ? lower_end : last_lower;
}

template <CasedRules rules>
size_t Cased(const Reader& r, size_t at) {
  const Char c = r.At(at);
  const bool prefix = !(c.set & (chars::kLetter | chars::kNumber)) && !r.IsNewline(at);
  const auto suffixed = [&](size_t end) { return rules.contractions ? Contraction<true>(r, end) : end; };
  size_t upper_after_prefix = at;
  size_t upper = at;
  const size_t word = at + c.length;
  if (prefix) {
    if (const size_t end = UpperThenLower(r, word, &upper_after_prefix); end > word) return suffixed(end);
  }
  if (c.set & (chars::kUpperLike | chars::kLowerLike)) {
    if (const size_t end = UpperThenLower(r, at, &upper); end > at) return suffixed(end);
  }
  // No W can follow: U* would have met it above.
  if (prefix && upper_after_prefix > word) return suffixed(upper_after_prefix);
  if (upper > at) return suffixed(upper);
  if (c.set & chars::kNumber) return r.Run(at, chars::kNumber, rules.digits_max);
  constexpr CharSet kRest = kEverything & ~(chars::kSpace | chars::kLetter | chars::kNumber);
  if ((c.set & kRest) || (r.Byte(at) == ' ' && (r.At(word).set & kRest))) {
    size_t end = r.Run(word, kRest);
    while (r.IsNewline(end) || r.Byte(end) == '/') ++end;
    return end;
  }
  return SpacesOrLines(r, at);
}

template <CasedRules rules>
bool FindCased(std::string_view text, size_t from, size_t* begin, size_t* end) {
  return FindFirst<Cased<rules>>(text, from, begin, end);
}

/// Runs of one class: `<prefix>?<class>{min,max}`.
struct RunRules {
  size_t min = 1;
  size_t max = kUnlimited;
  CharSet prefix = 0;  // an optional character before
  bool space_prefix = false;  // an optional U+0020 before
};

template <class Rule>
size_t RunOf(const Reader& r, size_t at) {
  const auto run = [&](size_t from) {
    size_t count = 0;
    size_t end = from;
    while (count < Rule::kRules.max && end < r.size()) {
      uint32_t length;
      const uint32_t code_point = r.CodePoint(end, &length);
      if (!Rule::Contains(code_point, r.At(end).set)) break;
      end += length;
      ++count;
    }
    return count >= Rule::kRules.min ? end : from;
  };
  const Char c = r.At(at);
  if ((c.set & Rule::kRules.prefix) || (Rule::kRules.space_prefix && r.Byte(at) == ' ')) {
    const size_t after = at + c.length;
    if (const size_t end = run(after); end > after) return end;
  }
  return run(at);
}

template <class Rule>
bool FindRun(std::string_view text, size_t from, size_t* begin, size_t* end) {
  return FindFirst<RunOf<Rule>>(text, from, begin, end);
}

inline bool Between(uint32_t c, uint32_t first, uint32_t last) { return c - first <= last - first; }

struct NumericAlone {
  static constexpr RunRules kRules{.max = 1};
  static bool Contains(uint32_t, CharSet set) { return set & chars::kNumeric; }
};

struct Numbers {
  static constexpr RunRules kRules{};
  static bool Contains(uint32_t, CharSet set) { return set & chars::kNumber; }
};

struct NumberTriples {
  static constexpr RunRules kRules{.max = 3};
  static bool Contains(uint32_t, CharSet set) { return set & chars::kNumber; }
};

struct AsciiDigitTriples {
  static constexpr RunRules kRules{.min = 3, .max = 3};
  static bool Contains(uint32_t c, CharSet) { return Between(c, '0', '9'); }
};

struct NewlineAlone {
  static constexpr RunRules kRules{.max = 1};
  static bool Contains(uint32_t c, CharSet) { return c == '\r' || c == '\n'; }
};

struct SpacedLetters {
  static constexpr RunRules kRules{.prefix = chars::kSpace};
  static bool Contains(uint32_t, CharSet set) { return set & chars::kLetter; }
};

struct SpacedPunctuation {
  static constexpr RunRules kRules{.prefix = chars::kSpace};
  static bool Contains(uint32_t, CharSet set) { return set & chars::kPunctuation; }
};

/// Unified ideographs of the first version and Japanese syllables.
struct CjkAndKana {
  static constexpr RunRules kRules{};
  static bool Contains(uint32_t c, CharSet) {
    return Between(c, 0x4E00, 0x9FA5) || Between(c, 0x3040, 0x30FF);
  }
};

/// U+0800 to the end of the ideographs, and Hangul.
struct EastAsian {
  static constexpr RunRules kRules{};
  static bool Contains(uint32_t c, CharSet) {
    return Between(c, 0x0800, 0x9FA5) || Between(c, 0xAC00, 0xD7FF);
  }
};

/// Punctuation and the ASCII symbols that count as such.
struct PunctuationRun {
  static constexpr RunRules kRules{};
  static bool Contains(uint32_t c, CharSet set) {
    return (set & chars::kPunctuation) ||
           (c < 0x80 && std::string_view("$+<=>^~|").find(static_cast<char>(c)) != std::string_view::npos);
  }
};

/// Anything but white space and sentence punctuation in several scripts.
struct NotSentencePunctuation {
  static constexpr RunRules kRules{.space_prefix = true};
  static bool Contains(uint32_t c, CharSet set) {
    constexpr std::u32string_view kMarks = U"(|.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C)";
    return !(set & chars::kSpace) && kMarks.find(static_cast<char32_t>(c)) == std::u32string_view::npos;
  }
};

}  // namespace tokenmill::split
