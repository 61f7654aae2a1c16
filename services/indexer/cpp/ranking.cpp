// Exact scores: inner products of float32 rows summed in float64, each row by itself, so that equal rows tie wherever they lie.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#include "inner_product.hpp"
#include "scored.hpp"

namespace py = pybind11;

namespace {

using lookalike::Array;
using Scored = lookalike::Scored<std::int64_t>;
constexpr auto better = lookalike::better<std::int64_t>;

// The pictures of a query, of whose scores a row has the best: `values` are theirs, one after the other.
struct Pictures {
    std::vector<double> values;
    std::size_t dim;
};

Pictures pictures_of(const Array<float>& units, std::size_t first, std::size_t count) {
    const auto dim = static_cast<std::size_t>(units.shape(1));
    const float* const start = units.data() + first * dim;
    return {std::vector<double>(start, start + count * dim), dim};
}

void refuse_misfits(const Array<float>& rows, const Array<float>& pictures) {
    if (rows.ndim() != 2 || pictures.ndim() != 2 || rows.shape(1) != pictures.shape(1))
        throw std::invalid_argument("rows must be [n, d] and pictures [p, d]");
}

FOR_EACH_PROCESSOR
void score(const float* const* rows, std::size_t count, const Pictures& pictures, float* scores) {
    const float* group[lookalike::AT_ONCE];
    double products[lookalike::AT_ONCE];
    for (std::size_t first = 0; first < count; first += lookalike::AT_ONCE) {
        lookalike::next_rows([rows](std::size_t row) { return rows[row]; }, first, count, group);
        const std::size_t size = std::min(lookalike::AT_ONCE, count - first);
        std::fill_n(scores + first, size, -1.0F);
        for (std::size_t start = 0; start < pictures.values.size(); start += pictures.dim) {
            lookalike::inner_products<lookalike::AT_ONCE>(group, pictures.values.data() + start, pictures.dim, products);
            for (std::size_t row = 0; row < size; ++row)
                scores[first + row] = std::max(scores[first + row], static_cast<float>(std::min(products[row], 1.0)));
        }
    }
}

// Keeps the k best and all that tie with the last of them, best first, ties by place.
void keep_best(std::vector<Scored>& scored, std::size_t k) {
    if (k < scored.size()) {
        std::nth_element(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(k), scored.end(), better);
        const float last = std::min_element(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(k))->first;
        scored.erase(std::remove_if(scored.begin() + static_cast<std::ptrdiff_t>(k), scored.end(),
                                    [last](const Scored& each) { return each.first < last; }),
                     scored.end());
    }
    std::sort(scored.begin(), scored.end(), better);
}

Array<float> exact_scores(const Array<float>& rows, const Array<float>& pictures) {
    refuse_misfits(rows, pictures);
    if (pictures.shape(0) == 0) throw std::invalid_argument("there must be pictures");
    const Pictures query = pictures_of(pictures, 0, static_cast<std::size_t>(pictures.shape(0)));
    std::vector<const float*> each(static_cast<std::size_t>(rows.shape(0)));
    for (std::size_t row = 0; row < each.size(); ++row) each[row] = rows.data() + row * query.dim;
    Array<float> scores(rows.shape(0));
    float* const out = scores.mutable_data();
    py::gil_scoped_release released;
    score(each.data(), each.size(), query, out);
    return scores;
}

// What is served: rows of the build, and behind them slots of what is newer.
struct Served {
    const float *built, *fresh;
    std::int64_t rows, slots;

    const float* at(std::int64_t place, std::size_t dim) const {
        if (place < 0 || place >= rows + slots) throw std::out_of_range("a place is neither a row nor a slot");
        return place < rows ? built + static_cast<std::size_t>(place) * dim : fresh + static_cast<std::size_t>(place - rows) * dim;
    }
};

std::vector<Scored> best_of(const Served& served, const std::int64_t* places, std::size_t count, const Pictures& pictures, std::size_t k) {
    std::vector<const float*> rows(count);
    for (std::size_t each = 0; each < count; ++each) rows[each] = served.at(places[each], pictures.dim);
    std::vector<float> scores(count);
    score(rows.data(), count, pictures, scores.data());
    std::vector<Scored> scored(count);
    for (std::size_t each = 0; each < count; ++each) scored[each] = {scores[each], places[each]};
    keep_best(scored, k);
    return scored;
}

py::tuple columns(const std::vector<Scored>& scored) {
    py::list places(scored.size()), scores(scored.size());
    for (std::size_t each = 0; each < scored.size(); ++each) {
        places[each] = scored[each].second;
        scores[each] = scored[each].first;
    }
    return py::make_tuple(std::move(places), std::move(scores));
}

py::list best(const Array<float>& built, const Array<float>& fresh, const std::vector<Array<std::int64_t>>& places, const Array<float>& units,
              const std::vector<std::size_t>& sizes, std::size_t k) {
    refuse_misfits(built, units);
    refuse_misfits(fresh, units);
    if (sizes.size() != places.size() || std::count(sizes.begin(), sizes.end(), std::size_t{0}) > 0 ||
        std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}) != static_cast<std::size_t>(units.shape(0)))
        throw std::invalid_argument("there must be a size for each query, at least 1, and as many pictures as these say");
    std::vector<std::vector<Scored>> found(places.size());
    {
        const Served served{built.data(), fresh.data(), built.shape(0), fresh.shape(0)};
        py::gil_scoped_release released;
        for (std::size_t query = 0, first = 0; query < found.size(); first += sizes[query++])
            found[query] = best_of(served, places[query].data(), static_cast<std::size_t>(places[query].size()),
                                   pictures_of(units, first, sizes[query]), k);
    }
    py::list answers(found.size());
    for (std::size_t query = 0; query < found.size(); ++query) answers[query] = columns(found[query]);
    return answers;
}

}  // namespace

PYBIND11_MODULE(_ranking, module) {
    module.def("exact_scores", &exact_scores, py::arg("rows").noconvert(), py::arg("pictures"));
    module.def("best", &best, py::arg("built").noconvert(), py::arg("fresh").noconvert(), py::arg("places"),
               py::arg("units"), py::arg("sizes"), py::arg("k"));
}
