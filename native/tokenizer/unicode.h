#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace tokenmill {

/// General categories as far as the pre-tokenizers tell them apart; values are those of unicode_tables.py.
enum UnicodeCategory : uint8_t {
  kCategoryOther = 0,  // controls, formats, unassigned
  kCategoryLu,
  kCategoryLl,
  kCategoryLt,
  kCategoryLm,
  kCategoryLo,
  kCategoryM,
  kCategoryN,
  kCategoryP,
  kCategoryS,
  kCategorySpace,        // White_Space; no character of the categories above has it
  kCategoryNumberLater,  // numbers since Unicode 17: unassigned for regular expressions, digits for Digits
};

/// Sets of categories: one bit each, so that a character class is one AND.
using CharSet = uint16_t;

namespace chars {
constexpr CharSet Of(UnicodeCategory category) { return static_cast<CharSet>(1u << category); }
constexpr CharSet kOther = Of(kCategoryOther) | Of(kCategoryNumberLater);
constexpr CharSet kSpace = Of(kCategorySpace);
constexpr CharSet kNumber = Of(kCategoryN);
constexpr CharSet kNumeric = Of(kCategoryN) | Of(kCategoryNumberLater);
constexpr CharSet kMark = Of(kCategoryM);
constexpr CharSet kPunctuation = Of(kCategoryP);
constexpr CharSet kSymbol = Of(kCategoryS);
constexpr CharSet kUncased = Of(kCategoryLm) | Of(kCategoryLo);
constexpr CharSet kLetter = Of(kCategoryLu) | Of(kCategoryLl) | Of(kCategoryLt) | kUncased;
constexpr CharSet kUpperLike = Of(kCategoryLu) | Of(kCategoryLt) | kUncased | kMark;
constexpr CharSet kLowerLike = Of(kCategoryLl) | kUncased | kMark;
constexpr CharSet kNotNfc = 0x8000;  // not a category: NFC may change a text with this character
}  // namespace chars

/// Two-level table of every code point's CharSet bit (and kNotNfc). Built once, on first use.
class UnicodeTable {
 public:
  static const UnicodeTable& Get();

  /// `code_point` is below 0x110000.
  CharSet operator[](uint32_t code_point) const {
    return pages_[page_of_[code_point >> 8]][code_point & 0xFF];
  }

 private:
  using Page = std::array<CharSet, 256>;
  UnicodeTable();

  std::array<uint16_t, 0x1100> page_of_;
  std::vector<Page> pages_;
};

}  // namespace tokenmill
