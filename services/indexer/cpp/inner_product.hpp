// Inner products of rows of any length: sums of many lanes, always in the same order, so that equal rows have equal products.
#pragma once

#include <cstddef>
#include <cstring>

// Several versions of a function, of which the processor's is chosen when the module is loaded.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "fma", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
// What such a function calls is compiled for each of them only as a part of it.
#define PART_OF_CALLER __attribute__((always_inline))

namespace lookalike {

template <typename Number, std::size_t count>
struct Lanes {
    typedef Number Vector __attribute__((vector_size(count * sizeof(Number))));
};

template <typename Number, std::size_t count>
PART_OF_CALLER inline typename Lanes<Number, count>::Vector load(const Number* from) {
    typename Lanes<Number, count>::Vector loaded;
    std::memcpy(&loaded, from, sizeof loaded);
    return loaded;
}

// Adds the upper half of lanes to the lower until one is left.
template <typename Number, std::size_t count>
PART_OF_CALLER inline Number folded(const Number* lanes) {
    if constexpr (count == 1) {
        return lanes[0];
    } else {
        const auto half = load<Number, count / 2>(lanes) + load<Number, count / 2>(lanes + count / 2);
        Number halved[count / 2];
        std::memcpy(halved, &half, sizeof halved);
        return folded<Number, count / 2>(halved);
    }
}

template <typename Number, typename Stored>
PART_OF_CALLER inline Number inner_product(const Stored* row, const Number* query, std::size_t dim) {
    constexpr std::size_t width = 64 / sizeof(Number);
    using Sum = typename Lanes<Number, width>::Vector;
    Sum sums[4] = {};
    std::size_t at = 0;
    for (; at + 4 * width <= dim; at += 4 * width)
        for (std::size_t part = 0; part < 4; ++part)
            sums[part] += __builtin_convertvector(load<Stored, width>(row + at + part * width), Sum) *
                          load<Number, width>(query + at + part * width);
    for (; at + width <= dim; at += width)
        sums[0] += __builtin_convertvector(load<Stored, width>(row + at), Sum) * load<Number, width>(query + at);
    const Sum sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    Number lanes[width];
    std::memcpy(lanes, &sum, sizeof lanes);
    Number product = folded<Number, width>(lanes);
    for (; at < dim; ++at) product += static_cast<Number>(row[at]) * query[at];
    return product;
}

}  // namespace lookalike
