#include "ops/backend_call.h"

#include <algorithm>
#include <cstring>

namespace tokenmill {

uint32_t ErrorCodeCount() {
  constexpr Code kCodes[] = {
#define TM_ERROR_CODE(name) Code::k##name,
#include "core/error_codes.def"
#undef TM_ERROR_CODE
  };
  return sizeof(kCodes) / sizeof(kCodes[0]);
}

TmStructSizes BackendStructSizes() {
  return {sizeof(TmBackend),      sizeof(TmMessage),    sizeof(TmDevice),   sizeof(TmOptions),
          sizeof(TmSizes),        sizeof(TmWeightSource), sizeof(TmFactors), sizeof(TmAdapterSource),
          sizeof(TmAdapterUse),   sizeof(TmSequence),   sizeof(TmEdit),     sizeof(TmCandidate),
          sizeof(TmHeadRow),      sizeof(TmSink),       sizeof(TmStep),     sizeof(TmHeadResult)};
}

void CopyText(std::string_view text, char* out, size_t capacity) {
  size_t length = std::min(text.size(), capacity - 1);
  // 10xxxxxx goes on with a character.
  while (length < text.size() && length > 0 && (static_cast<uint8_t>(text[length]) & 0xc0) == 0x80) --length;
  std::memcpy(out, text.data(), length);
  out[length] = '\0';
}

TmCode ToCode(const Status& status, TmMessage* message) {
  CopyText(status.message(), message->text, sizeof(message->text));
  return static_cast<TmCode>(status.code());
}

Status ToStatus(TmCode code, const TmMessage& message) {
  if (code == 0) return {};
  const bool known = code > 0 && static_cast<uint32_t>(code) <= ErrorCodeCount();
  const size_t length = std::find(std::begin(message.text), std::end(message.text), '\0') - message.text;
  return Status(known ? static_cast<Code>(code) : Code::kInternal, std::string(message.text, length));
}

}  // namespace tokenmill
