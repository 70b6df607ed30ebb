#pragma once

#include "model/decoder_spec.h"

namespace tokenmill {

Result<DecoderSpec> ReadLlamaSpec(const GgufFile& file);
Result<DecoderSpec> ReadGemma3Spec(const GgufFile& file);

std::span<const ModuleName> LlamaModules();
std::span<const ModuleName> Gemma3Modules();

}  // namespace tokenmill
