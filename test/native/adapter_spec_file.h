#pragma once

#include <fstream>
#include <sstream>
#include <string>

#include "adapter/adapter_spec.h"
#include "core/status.h"

namespace tokenmill::testing {

inline bool ReadStoredFactor(std::istream& in, StoredFactor* factor) {
  std::string dtype;
  in >> factor->tensor >> dtype >> factor->rows >> factor->cols >> factor->offset >> factor->bytes;
  const DTypeInfo* info = FindDType(dtype);
  if (info != nullptr) factor->dtype = info->dtype;
  return info != nullptr && !in.fail();
}

/// Reads what scripts/adapter-spec.mjs writes: "modules|tensors BYTES PATH", then a line an entry: its target and
/// scale, and of A and B tensor, type, rows, columns, offset and bytes.
inline Result<AdapterSpec> ReadAdapterSpecFile(const std::string& path) {
  std::ifstream file(path);
  AdapterSpec spec;
  std::string names;
  file >> names >> spec.file_bytes >> std::ws;
  std::getline(file, spec.path);
  spec.names = names == "modules" ? TargetNames::kModules : TargetNames::kTensors;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    AdapterEntry entry;
    in >> entry.target >> entry.scale;
    if (!ReadStoredFactor(in, &entry.a) || !ReadStoredFactor(in, &entry.b)) {
      return Error(Code::kInvalidArgument, "%s is no adapter's specification: %s", path.c_str(),
                   line.c_str());
    }
    spec.entries.push_back(std::move(entry));
  }
  return spec;
}

}  // namespace tokenmill::testing
