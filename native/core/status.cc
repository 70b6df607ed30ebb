#include "core/status.h"

#include <cstdarg>
#include <cstdio>

namespace tokenmill {
namespace {

std::string FormatV(const char* format, va_list arguments) {
  va_list copy;
  va_copy(copy, arguments);
  const int size = std::vsnprintf(nullptr, 0, format, copy);
  va_end(copy);
  std::string text(size > 0 ? static_cast<size_t>(size) : 0, '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, arguments);
  return text;
}

}  // namespace

const char* CodeName(Code code) {
  switch (code) {
    case Code::kOk:
      return "Ok";
#define TM_ERROR_CODE(name) \
  case Code::k##name:       \
    return #name;
#include "core/error_codes.def"
#undef TM_ERROR_CODE
  }
  return "Internal";
}

std::string Format(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string text = FormatV(format, arguments);
  va_end(arguments);
  return text;
}

Status Error(Code code, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  Status status(code, FormatV(format, arguments));
  va_end(arguments);
  return status;
}

}  // namespace tokenmill
