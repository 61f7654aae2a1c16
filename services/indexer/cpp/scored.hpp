// Places with their scores, and their order.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace lookalike {

template <typename Number>
using Array = pybind11::array_t<Number, pybind11::array::c_style>;

template <typename Place>
using Scored = std::pair<float, Place>;

// Higher scores first, ties by place.
template <typename Place>
bool better(const Scored<Place>& one, const Scored<Place>& other) {
    return one.first != other.first ? one.first > other.first : one.second < other.second;
}

// What was found for each query, as an array of rows.
template <typename Found, typename RowOf>
pybind11::list rows_of(const std::vector<std::vector<Found>>& found, RowOf row_of) {
    pybind11::list answer;
    for (const std::vector<Found>& each : found) {
        Array<std::int64_t> rows(static_cast<pybind11::ssize_t>(each.size()));
        std::transform(each.begin(), each.end(), rows.mutable_data(), row_of);
        answer.append(std::move(rows));
    }
    return answer;
}

}  // namespace lookalike
