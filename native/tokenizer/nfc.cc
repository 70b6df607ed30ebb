#include "tokenizer/nfc.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace tokenmill {
namespace {

#include "tokenizer/unicode_nfc.inc"

// Hangul syllables are composed by arithmetic (Unicode standard, section 3.12).
constexpr uint32_t kSBase = 0xAC00, kLBase = 0x1100, kVBase = 0x1161, kTBase = 0x11A7;
constexpr uint32_t kLCount = 19, kVCount = 21, kTCount = 28, kSCount = kLCount * kVCount * kTCount;

uint8_t CombiningClass(uint32_t code_point) {
  const uint32_t* after =
      std::upper_bound(std::begin(kCombiningRanges), std::end(kCombiningRanges), code_point << 8 | 0xFF);
  return static_cast<uint8_t>(after[-1] & 0xFF);
}

struct Pair {
  uint64_t parts;  // first << 22 | second << 1
  uint32_t whole;
  bool operator<(const Pair& other) const { return parts < other.parts; }
};

/// Primary composites by their parts; built once.
const std::vector<Pair>& Compositions() {
  static const std::vector<Pair>& pairs = *new std::vector<Pair>([] {
    std::vector<Pair> result;
    for (const uint64_t row : kDecompositions) {
      if (row & 1) result.push_back({row & ((1ull << 43) - 2), static_cast<uint32_t>(row >> 43)});
    }
    std::sort(result.begin(), result.end());
    return result;
  }());  // never destroyed: threads may run at exit
  return pairs;
}

/// The composite of two characters, or 0.
uint32_t Compose(uint32_t first, uint32_t second) {
  if (first - kLBase < kLCount && second - kVBase < kVCount) {
    return kSBase + ((first - kLBase) * kVCount + (second - kVBase)) * kTCount;
  }
  if (first - kSBase < kSCount && (first - kSBase) % kTCount == 0 && second - kTBase - 1 < kTCount - 1) {
    return first + (second - kTBase);
  }
  const Pair key{static_cast<uint64_t>(first) << 22 | static_cast<uint64_t>(second) << 1, 0};
  const std::vector<Pair>& pairs = Compositions();
  const auto found = std::lower_bound(pairs.begin(), pairs.end(), key);
  return found != pairs.end() && found->parts == key.parts ? found->whole : 0;
}

struct Mark {
  uint32_t code_point;
  uint8_t combining_class;
};

/// Appends the full canonical decomposition of a character that is not a Hangul syllable. Syllables stay
/// whole: they would only compose again.
void Decompose(uint32_t code_point, std::vector<Mark>* out) {
  const uint64_t* row = std::lower_bound(std::begin(kDecompositions), std::end(kDecompositions),
                                         static_cast<uint64_t>(code_point) << 43);
  if (row == std::end(kDecompositions) || (*row >> 43) != code_point) {
    out->push_back({code_point, CombiningClass(code_point)});
    return;
  }
  constexpr uint64_t kMask = (1u << 21) - 1;
  Decompose(static_cast<uint32_t>((*row >> 22) & kMask), out);
  if (const uint32_t second = static_cast<uint32_t>((*row >> 1) & kMask)) Decompose(second, out);
}

/// Sorts each run of marks (class not 0) by class, keeping the order of equals.
void Reorder(std::vector<Mark>* marks) {
  auto begin = marks->begin();
  while (begin != marks->end()) {
    const auto is_starter = [](const Mark& mark) { return mark.combining_class == 0; };
    begin = std::find_if_not(begin, marks->end(), is_starter);
    const auto end = std::find_if(begin, marks->end(), is_starter);
    std::stable_sort(begin, end,
                     [](const Mark& a, const Mark& b) { return a.combining_class < b.combining_class; });
    begin = end;
  }
}

/// Composes in place every character with the last starter that nothing between them blocks.
void Recompose(std::vector<Mark>* marks) {
  size_t kept = 0;
  size_t starter = SIZE_MAX;
  int last_class = -1;  // of the last kept character after the starter; -1: none
  for (const Mark mark : *marks) {
    if (starter != SIZE_MAX && last_class < mark.combining_class) {
      if (const uint32_t whole = Compose((*marks)[starter].code_point, mark.code_point)) {
        (*marks)[starter].code_point = whole;
        continue;
      }
    }
    if (mark.combining_class == 0) {
      starter = kept;
      last_class = -1;
    } else {
      last_class = mark.combining_class;
    }
    (*marks)[kept++] = mark;
  }
  marks->resize(kept);
}

/// The end of the stretch from `at` on that starts with any character and goes on with flagged ones only.
size_t FlaggedStretch(std::string_view text, size_t at, bool* any) {
  const UnicodeTable& table = UnicodeTable::Get();
  for (bool first = true; at < text.size(); first = false) {
    const uint32_t length = Utf8Length(static_cast<uint8_t>(text[at]));
    const bool flagged = table[DecodeUtf8(text.data() + at, length)] & chars::kNotNfc;
    if (!first && !flagged) break;
    *any |= flagged;
    at += length;
  }
  return at;
}

void AppendNormalized(std::string_view stretch, std::vector<Mark>* marks, std::string* out) {
  marks->clear();
  for (size_t at = 0; at < stretch.size();) {
    const uint32_t length = Utf8Length(static_cast<uint8_t>(stretch[at]));
    Decompose(DecodeUtf8(stretch.data() + at, length), marks);
    at += length;
  }
  Reorder(marks);
  Recompose(marks);
  for (const Mark& mark : *marks) AppendUtf8(mark.code_point, out);
}

}  // namespace

bool IsPlainNfc(std::string_view text) {
  const UnicodeTable& table = UnicodeTable::Get();
  for (size_t at = 0; at < text.size();) {
    const uint8_t lead = static_cast<uint8_t>(text[at]);
    const uint32_t length = Utf8Length(lead);
    // Nothing below U+0300 (lead byte 0xCC) changes.
    if (lead >= 0xCC && (table[DecodeUtf8(text.data() + at, length)] & chars::kNotNfc)) return false;
    at += length;
  }
  return true;
}

std::string ToNfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<Mark> marks;
  for (size_t at = 0; at < text.size();) {
    bool any = false;
    const size_t end = FlaggedStretch(text, at, &any);
    const std::string_view stretch = text.substr(at, end - at);
    if (any) {
      AppendNormalized(stretch, &marks, &out);
    } else {
      out.append(stretch);
    }
    at = end;
  }
  return out;
}

}  // namespace tokenmill
