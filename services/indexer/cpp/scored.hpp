// Places with their scores, and their order.
#pragma once

#include <pybind11/numpy.h>

#include <utility>

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

}  // namespace lookalike
