#include "model/arch/arch.h"
#include "model/decoder_spec.h"

namespace tokenmill {

const std::vector<Architecture>& Architectures() {
  // Never destroyed: threads may run at exit.
  static const std::vector<Architecture>& architectures = *new std::vector<Architecture>{
      {"llama", ReadLlamaSpec, LlamaModules()},
      {"gemma3", ReadGemma3Spec, Gemma3Modules()},
  };
  return architectures;
}

}  // namespace tokenmill
