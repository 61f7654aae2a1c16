// Projection of one vector: it is reading the components that takes the time, and rounded to 16 bits they are half as much to read.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "inner_product.hpp"
#include "scored.hpp"

namespace py = pybind11;

namespace {

using lookalike::Array;

// Ones of either side. A product of two vectors of length one is at most their product, which leaves 32 bits room for rounding.
constexpr float component_one = 1 << 15, vector_one = 1 << 14;
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
    for (std::size_t each = 0; each < count; ++each) {
        const float scaled = std::min(std::max(values[each] * one, -32767.0F), 32767.0F);
        rounded[each] = static_cast<std::int16_t>(static_cast<std::int32_t>(scaled + std::copysign(0.5F, scaled)));
    }
}

FOR_EACH_PROCESSOR_OF_INTEGERS
void products(const std::int16_t* components, std::size_t count, const std::int16_t* vector, std::size_t dim, float* out) {
    for (std::size_t each = 0; each < count; ++each) {
        std::int32_t sum = 0;
        for (std::size_t at = 0; at < dim; ++at) sum += components[each * dim + at] * vector[at];
        out[each] = static_cast<float>(sum) * (1 / (component_one * vector_one));
    }
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
        round(components.data(), numbers_.size(), component_one, numbers_.data());
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
        round(values, dim_, vector_one, numbers.data());
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
