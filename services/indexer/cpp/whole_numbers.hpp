// Vectors of at most length one as whole numbers of 16 bits: half as much to read as they are, and far more precise than what is asked of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "inner_product.hpp"

// Earlier compilers do not know the name by which the processors with AVX-512 for whole numbers go.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define FOR_EACH_PROCESSOR_OF_INTEGERS __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR_OF_INTEGERS
#endif

namespace lookalike {

// Ones of either side. A product of two vectors of length one is at most their product, which leaves 32 bits room for rounding.
constexpr float row_one = 1 << 15, query_one = 1 << 14;

PART_OF_CALLER inline void round(const float* values, std::size_t count, float one, std::int16_t* rounded) {
    for (std::size_t each = 0; each < count; ++each) {
        const float scaled = std::min(std::max(values[each] * one, -32767.0F), 32767.0F);
        rounded[each] = static_cast<std::int16_t>(static_cast<std::int32_t>(scaled + std::copysign(0.5F, scaled)));
    }
}

// At most row_one × query_one and a little, where row and query are of length one.
PART_OF_CALLER inline std::int32_t whole_product(const std::int16_t* row, const std::int16_t* query, std::size_t dim) {
    std::int32_t sum = 0;
    for (std::size_t at = 0; at < dim; ++at) sum += row[at] * query[at];
    return sum;
}

}  // namespace lookalike
