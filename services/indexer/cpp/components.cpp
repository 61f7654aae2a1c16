// Projection of one vector: it is reading the components that takes the time, and rounded to 16 bits they are half as much to read.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "inner_product.hpp"
#include "scored.hpp"
#include "whole_numbers.hpp"

namespace py = pybind11;

namespace {

using lookalike::Array;
using lookalike::query_one;
using lookalike::row_one;

constexpr float longest = 1.01F;

FOR_EACH_PROCESSOR
bool too_long(const float* vector, std::size_t dim) {
    float squares;
    lookalike::inner_products<1>(&vector, vector, dim, &squares);
    // True of what is no number, too.
    return !(squares <= longest * longest);
}

FOR_EACH_PROCESSOR_OF_INTEGERS
void round(const float* values, std::size_t count, float one, std::int16_t* rounded) {
    lookalike::round(values, count, one, rounded);
}

FOR_EACH_PROCESSOR_OF_INTEGERS
void products(const std::int16_t* components, std::size_t count, const std::int16_t* vector, std::size_t dim, float* out) {
    for (std::size_t each = 0; each < count; ++each)
        out[each] = static_cast<float>(lookalike::whole_product(components + each * dim, vector, dim)) * (1 / (row_one * query_one));
}

class Components {
   public:
    Components(const Array<float>& components, const Array<float>& offset) {
        if (components.ndim() != 2 || offset.ndim() != 1 || offset.shape(0) != components.shape(0))
            throw std::invalid_argument("components must be [m, d], and offset [m]");
        count_ = static_cast<std::size_t>(components.shape(0));
        dim_ = static_cast<std::size_t>(components.shape(1));
        for (std::size_t each = 0; each < count_; ++each) refuse_longer(components.data() + each * dim_);
        numbers_.resize(count_ * dim_);
        round(components.data(), numbers_.size(), row_one, numbers_.data());
        offset_.assign(offset.data(), offset.data() + count_);
    }

    Array<float> project(const Array<float>& vector, std::size_t dims) const {
        if (vector.ndim() != 2 || vector.shape(0) != 1 || static_cast<std::size_t>(vector.shape(1)) != dim_ || dims > count_)
            throw std::invalid_argument("the vector must be [1, d], and dims at most m");
        refuse_longer(vector.data());
        Array<float> projected({std::size_t{1}, dims});
        const float* const values = vector.data();
        float* const out = projected.mutable_data();
        py::gil_scoped_release released;
        std::vector<std::int16_t> numbers(dim_);
        round(values, dim_, query_one, numbers.data());
        products(numbers_.data(), dims, numbers.data(), dim_, out);
        for (std::size_t each = 0; each < dims; ++each) out[each] -= offset_[each];
        return projected;
    }

   private:
    void refuse_longer(const float* vector) const {
        if (too_long(vector, dim_)) throw std::invalid_argument("components and vectors are of length one");
    }

    std::size_t count_, dim_;
    std::vector<std::int16_t> numbers_;
    std::vector<float> offset_;
};

}  // namespace

PYBIND11_MODULE(_components, module) {
    py::class_<Components>(module, "Components")
        .def(py::init<const Array<float>&, const Array<float>&>(), py::arg("components"), py::arg("offset"))
        .def("project", &Components::project, py::arg("vector"), py::arg("dims"));
}
