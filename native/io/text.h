#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tokenmill {

/// Whether `bytes` is well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool IsValidUtf8(std::string_view bytes);

/// Text from a file, made fit for an error message: in double quotes, control and invalid bytes as \xNN, cut
/// off after `bytes_max`.
std::string Quoted(std::string_view text, size_t bytes_max = 80);

}  // namespace tokenmill
