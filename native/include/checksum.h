// Whether memory is what it was: 64 bits that any accidental change alters.
#pragma once

#include <cstdint>

namespace sartor {

// Far faster than a cryptographic hash, and no substitute for one.
uint64_t checksum(const uint8_t* content, int64_t size);

}  // namespace sartor
