#pragma once

#include <string>
#include <string_view>

namespace tokenmill {

/// Whether `text` (valid UTF-8) has no character that normalization could touch. True for most texts.
bool IsPlainNfc(std::string_view text);

/// `text` (valid UTF-8) in Unicode Normalization Form C, with the Unicode version of PyPI's `tokenizers`.
std::string ToNfc(std::string_view text);

}  // namespace tokenmill
