#include "io/text.h"

#include <cstdint>

#include "core/status.h"

namespace tokenmill {
namespace {

/// The length of the well-formed character that `bytes` (not empty) starts with, or 0 when there is none.
size_t CharacterLength(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t lead = at(0);
  if (lead < 0x80) return 1;
  size_t length;
  uint8_t second_min = 0x80,
          second_max = 0xbf;  // the second byte alone excludes overlong forms and surrogates
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) second_min = 0xa0;
    if (lead == 0xed) second_max = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) second_min = 0x90;
    if (lead == 0xf4) second_max = 0x8f;
  } else {
    return 0;
  }
  if (bytes.size() < length || at(1) < second_min || at(1) > second_max) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

bool IsValidUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t length = CharacterLength(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

std::string Quoted(std::string_view text, size_t bytes_max) {
  std::string quoted = "\"";
  size_t at = 0;
  while (at < text.size() && at < bytes_max) {
    const size_t length = CharacterLength(text.substr(at));
    const uint8_t byte = static_cast<uint8_t>(text[at]);
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      quoted += Format("\\x%02x", byte);
      ++at;
      continue;
    }
    if (length == 1 && (byte == '"' || byte == '\\')) quoted += '\\';
    quoted.append(text, at, length);
    at += length;
  }
  return quoted + (at < text.size() ? "…\"" : "\"");
}

}  // namespace tokenmill
