#pragma once

// What a fuzz target gives to the drivers: libFuzzer's, or fuzz_main.cc, which needs no particular compiler.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// Runs the code under test on one input, and aborts when it breaks a promise.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

/// Valid inputs to start from; small, as the time for a run grows with them.
std::vector<std::string> FuzzSeeds();

/// One line about what the inputs so far have reached. False when they have not reached enough to mean much.
bool FuzzReport(std::string* line);
