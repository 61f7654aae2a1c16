// Search of an inverted file: of each query's nearest cells all rows are compared, and the best of them kept.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "inner_product.hpp"
#include "scored.hpp"

namespace py = pybind11;

namespace {

using lookalike::Array;
using Scored = lookalike::Scored<std::uint32_t>;
constexpr auto better = lookalike::better<std::uint32_t>;

FOR_EACH_PROCESSOR
void compare(const float* rows, std::size_t count, const float* query, std::size_t dim, float* scores) {
    const float* group[lookalike::AT_ONCE];
    float products[lookalike::AT_ONCE];
    for (std::size_t first = 0; first < count; first += lookalike::AT_ONCE) {
        lookalike::next_rows([rows, dim](std::size_t row) { return rows + row * dim; }, first, count, group);
        lookalike::inner_products<lookalike::AT_ONCE>(group, query, dim, products);
        std::copy_n(products, std::min(lookalike::AT_ONCE, count - first), scores + first);
    }
}

// The best of what is offered, as many as `depth`: a heap whose first is the worst of them.
class Best {
   public:
    explicit Best(std::size_t depth) : depth_(depth) { kept_.reserve(depth); }

    bool wants(const Scored& offered) const { return kept_.size() < depth_ || better(offered, kept_.front()); }

    void keep(const Scored& offered) {
        if (kept_.size() == depth_) {
            std::pop_heap(kept_.begin(), kept_.end(), better);
            kept_.pop_back();
        }
        kept_.push_back(offered);
        std::push_heap(kept_.begin(), kept_.end(), better);
    }

    std::vector<Scored> sorted() && {
        std::sort_heap(kept_.begin(), kept_.end(), better);
        return std::move(kept_);
    }

   private:
    std::size_t depth_;
    std::vector<Scored> kept_;
};

class Cells {
   public:
    Cells(Array<float> centres, Array<std::uint32_t> starts, Array<std::uint32_t> order, Array<float> rows)
        : centres_(std::move(centres)), starts_(std::move(starts)), order_(std::move(order)), rows_(std::move(rows)) {
        if (centres_.ndim() != 2 || rows_.ndim() != 2 || centres_.shape(1) != rows_.shape(1) || order_.size() != rows_.shape(0) ||
            starts_.size() != centres_.shape(0) + 1)
            throw std::invalid_argument("centres must be [c, d], starts [c + 1], order [n] and rows [n, d]");
        const std::uint32_t *const begin = starts_.data(), *const end = begin + starts_.size();
        const auto count = static_cast<std::uint32_t>(order_.size());
        if (*begin != 0 || end[-1] != count || !std::is_sorted(begin, end)) throw std::invalid_argument("the cells do not follow each other");
        if (std::any_of(order_.data(), order_.data() + count, [count](std::uint32_t row) { return row >= count; }))
            throw std::invalid_argument("a cell holds a row that does not exist");
    }

    // Returns the rows of the `depth` best of each query's nearest `looked_at` cells, best first, without those that are absent.
    py::list nearest(const Array<float>& queries, std::size_t looked_at, std::size_t depth, const std::optional<Array<bool>>& absent) const {
        if (queries.ndim() != 2 || queries.shape(1) != rows_.shape(1)) throw std::invalid_argument("queries must be [q, d]");
        if (depth == 0) throw std::invalid_argument("depth must be at least 1");
        if (absent && absent->size() != order_.size()) throw std::invalid_argument("absent must be [n]");
        std::vector<std::vector<Scored>> found(static_cast<std::size_t>(queries.shape(0)));
        {
            const float* const query = queries.data();
            const bool* const left_out = absent ? absent->data() : nullptr;
            py::gil_scoped_release released;
            for (std::size_t each = 0; each < found.size(); ++each)
                found[each] = search(query + each * dim(), looked_at, depth, left_out);
        }
        return lookalike::rows_of(found, [](const Scored& each) { return each.second; });
    }

   private:
    std::size_t dim() const { return static_cast<std::size_t>(rows_.shape(1)); }

    std::vector<Scored> search(const float* query, std::size_t looked_at, std::size_t depth, const bool* absent) const {
        Best best(std::min(depth, static_cast<std::size_t>(order_.size())));
        std::vector<float> scores;
        for (const Scored& near : nearest_cells(query, looked_at)) {
            const std::uint32_t start = starts_.data()[near.second], count = starts_.data()[near.second + 1] - start;
            scores.resize(count);
            compare(rows_.data() + start * dim(), count, query, dim(), scores.data());
            for (std::uint32_t place = 0; place < count; ++place) {
                const Scored offered{scores[place], order_.data()[start + place]};
                if (best.wants(offered) && !(absent && absent[offered.second])) best.keep(offered);
            }
        }
        return std::move(best).sorted();
    }

    std::vector<Scored> nearest_cells(const float* query, std::size_t looked_at) const {
        const auto cells = static_cast<std::size_t>(centres_.shape(0));
        std::vector<float> scores(cells);
        compare(centres_.data(), cells, query, dim(), scores.data());
        std::vector<Scored> order(cells);
        for (std::uint32_t cell = 0; cell < cells; ++cell) order[cell] = {scores[cell], cell};
        looked_at = std::min(looked_at, cells);
        std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(looked_at), order.end(), better);
        order.resize(looked_at);
        return order;
    }

    Array<float> centres_;
    Array<std::uint32_t> starts_, order_;
    Array<float> rows_;
};

}  // namespace

PYBIND11_MODULE(_cells, module) {
    py::class_<Cells>(module, "Cells")
        .def(py::init<Array<float>, Array<std::uint32_t>, Array<std::uint32_t>, Array<float>>(), py::arg("centres").noconvert(),
             py::arg("starts").noconvert(), py::arg("order").noconvert(), py::arg("rows").noconvert())
        .def("nearest", &Cells::nearest, py::arg("queries"), py::arg("looked_at"), py::arg("depth"),
             py::arg("absent").noconvert().none(true));
}
