#pragma once

#include <string>
#include <utility>
#include <variant>

namespace tokenmill {

enum class Code {
  kOk,
#define TM_ERROR_CODE(name) k##name,
#include "core/error_codes.def"
#undef TM_ERROR_CODE
};

/// The code's public name, for example "CorruptFile"; "Ok" for kOk.
const char* CodeName(Code code);

/// The outcome of an operation that can fail. The message says what was found, what was expected and what
/// to do; it reaches the user as it is.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const& { return message_; }
  std::string message() && { return std::move(message_); }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

/// A value or the Status that says why there is none. Reading the value of a failed Result is a defect.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Result(Status status) : state_(std::move(status)) {}   // NOLINT(google-explicit-constructor)

  bool ok() const { return std::holds_alternative<T>(state_); }
  Status status() const { return ok() ? Status() : std::get<Status>(state_); }
  T& value() & { return std::get<T>(state_); }
  const T& value() const& { return std::get<T>(state_); }
  T value() && {
    return std::get<T>(std::move(state_));
  }  // by value, so that a reference to it may outlive this

 private:
  std::variant<Status, T> state_;
};

/// printf into a std::string.
std::string Format(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// Shorthand for Status(code, Format(...)).
Status Error(Code code, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace tokenmill

#define TM_CONCAT_INNER(a, b) a##b
#define TM_CONCAT(a, b) TM_CONCAT_INNER(a, b)

/// Returns from the enclosing function when `expression` is a failed Status.
#define TM_RETURN_IF_ERROR(expression)            \
  do {                                            \
    ::tokenmill::Status tm_status = (expression); \
    if (!tm_status.ok()) return tm_status;        \
  } while (false)

/// Declares or assigns `target` from a Result, or returns its Status.
#define TM_ASSIGN_OR_RETURN(target, expression)                                               \
  auto TM_CONCAT(tm_result_, __LINE__) = (expression);                                        \
  if (!TM_CONCAT(tm_result_, __LINE__).ok()) return TM_CONCAT(tm_result_, __LINE__).status(); \
  target = std::move(TM_CONCAT(tm_result_, __LINE__)).value()
