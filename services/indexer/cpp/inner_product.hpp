// Inner products of rows of any length: each row's is a sum of many lanes, always in the same order, so that equal rows have equal products.
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

template <std::size_t count, typename Number, typename Stored>
PART_OF_CALLER inline void inner_products(const Stored* const* rows, const Number* query, std::size_t dim, Number* products) {
    constexpr std::size_t width = 64 / sizeof(Number);
    using Sum = typename Lanes<Number, width>::Vector;
    Sum sums[count] = {};
    std::size_t whole = 0;
    for (; whole + width <= dim; whole += width) {
        const Sum part = load<Number, width>(query + whole);
        for (std::size_t row = 0; row < count; ++row)
            sums[row] += __builtin_convertvector(load<Stored, width>(rows[row] + whole), Sum) * part;
    }
    for (std::size_t row = 0; row < count; ++row) {
        Number lanes[width];
        std::memcpy(lanes, &sums[row], sizeof lanes);
        products[row] = folded<Number, width>(lanes);
        for (std::size_t at = whole; at < dim; ++at) products[row] += static_cast<Number>(rows[row][at]) * query[at];
    }
}

// Rows read side by side: from memory several come nearly as fast as one does alone.
constexpr std::size_t AT_ONCE = 8;

// The rows from `first` on, of which row_at tells where each lies; behind the last of `count` it is repeated.
template <typename Stored, typename RowAt>
PART_OF_CALLER inline void next_rows(RowAt row_at, std::size_t first, std::size_t count, const Stored** rows) {
    for (std::size_t each = 0; each < AT_ONCE; ++each) rows[each] = row_at(first + each < count ? first + each : count - 1);
}

}  // namespace lookalike
