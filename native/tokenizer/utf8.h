#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tokenmill {

/// What starts at the front of a byte string.
struct Utf8Unit {
  enum class Kind : uint8_t {
    kCharacter,   // a whole character
    kInvalid,     // a maximal part that no further bytes could complete
    kIncomplete,  // the string ends inside a character that could still complete
  };
  Kind kind;
  uint8_t length;  // in bytes, at least 1
};

/// Looks at the front of `bytes`, which must not be empty.
Utf8Unit NextUtf8(std::string_view bytes);

/// Whether all of `bytes` is valid UTF-8.
bool IsWholeUtf8(std::string_view bytes);

/// Appends `code_point` (a scalar value) in UTF-8.
void AppendUtf8(uint32_t code_point, std::string* out);

/// The length of the character that starts with `lead`, in valid UTF-8.
inline uint32_t Utf8Length(uint8_t lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

/// The character at `p` of valid UTF-8.
inline uint32_t DecodeUtf8(const char* p, uint32_t length) {
  const uint8_t* b = reinterpret_cast<const uint8_t*>(p);
  switch (length) {
    case 1:
      return b[0];
    case 2:
      return (b[0] & 0x1Fu) << 6 | (b[1] & 0x3Fu);
    case 3:
      return (b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu);
    default:
      return (b[0] & 0x07u) << 18 | (b[1] & 0x3Fu) << 12 | (b[2] & 0x3Fu) << 6 | (b[3] & 0x3Fu);
  }
}

}  // namespace tokenmill
