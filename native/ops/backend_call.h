#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <string_view>

#include "core/status.h"
#include "ops/backend_table.h"

// What both sides of a backend's table make of failures.

namespace tokenmill {

/// How many codes there are; what a table says must be the same.
uint32_t ErrorCodeCount();

/// Sizes of the table's structures as this side has them.
TmStructSizes BackendStructSizes();

/// Copies a text, shortened to whole characters where it does not fit.
void CopyText(std::string_view text, char* out, size_t capacity);

TmCode ToCode(const Status& status, TmMessage* message);
/// Of a function that has returned `code`.
Status ToStatus(TmCode code, const TmMessage& message);

/// What `body` returns, as a code; what it throws too, so that nothing is thrown across the table.
template <class Body>
TmCode CallGuarded(TmMessage* message, const Body& body) noexcept {
  try {
    return ToCode(body(), message);
  } catch (const std::bad_alloc&) {
    CopyText("the system refused memory", message->text, sizeof(message->text));
    return static_cast<TmCode>(Code::kOutOfMemory);
  } catch (const std::exception& exception) {
    CopyText(exception.what(), message->text, sizeof(message->text));
    return static_cast<TmCode>(Code::kInternal);
  }
}

}  // namespace tokenmill
