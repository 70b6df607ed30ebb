#include "tokenizer/unicode.h"

#include <algorithm>
#include <iterator>

namespace tokenmill {
namespace {

#include "tokenizer/unicode_classes.inc"

CharSet FromClass(uint32_t value) {
  const CharSet bit = static_cast<CharSet>(1u << (value & 0x0F));
  return static_cast<CharSet>(bit | ((value & 0x80) ? chars::kNotNfc : 0));
}

}  // namespace

UnicodeTable::UnicodeTable() {
  const uint32_t* range = std::begin(kClassRanges);
  const uint32_t* const last = std::end(kClassRanges) - 1;
  for (uint32_t page = 0; page < page_of_.size(); ++page) {
    Page content;
    for (uint32_t i = 0; i < 256; ++i) {
      const uint32_t code_point = page << 8 | i;
      while (range < last && (range[1] >> 8) <= code_point) ++range;
      content[i] = FromClass(*range & 0xFF);
    }
    // Most pages are one of a few uniform ones; only those are worth sharing.
    const auto found = std::find(pages_.begin(), pages_.end(), content);
    page_of_[page] = static_cast<uint16_t>(found - pages_.begin());
    if (found == pages_.end()) pages_.push_back(content);
  }
}

const UnicodeTable& UnicodeTable::Get() {
  static const UnicodeTable& table = *new UnicodeTable();  // never destroyed: threads may run at exit
  return table;
}

}  // namespace tokenmill
