#include "model/arch/arch.h"
#include "model/decoder_spec.h"

namespace tokenmill {

const std::vector<Architecture>& Architectures() {
  // Never destroyed: threads may run at exit.
  static const std::vector<Architecture>& architectures = *new std::vector<Architecture>{
      {"llama", ReadLlamaSpec},
      {"gemma3", ReadGemma3Spec},
  };
  return architectures;
}

}  // namespace tokenmill
