from __future__ import annotations

from lookalike_indexer.builds.measure import Recall
from lookalike_indexer.builds.planning import PLANNED_K, Option, Plan, make_plan
from lookalike_indexer.candidates import Effort
from lookalike_indexer.records import Source

TARGET = 0.95
# What each option costs a single query, and a query of a batch.
TIMES: dict[tuple[Source, int], tuple[float, float]] = {
    ("annoy", 64): (1.0, 1.0),
    ("scan", 32): (2.0, 0.4),
    ("scan", 128): (4.0, 0.6),
    ("exact", 0): (9.0, 3.0),
}


def option(k: int, source: Source, dims: int, low: float, search_k: int = 0, depth: int = 50) -> Option:
    return Option(k, source, dims, Effort(search_k, depth), Recall(min(1.0, low + 0.01), low))


def timer(option: Option, batch: bool) -> float:
    return TIMES[option.source, option.reduced_dim][batch] * (1 + option.effort.depth / 1000 + option.effort.search_k / 10_000)


def planned(*options: Option, forced: bool = False) -> Plan:
    # Where nothing is said of a number of hits, what there is misses the target.
    said = {each.k for each in options}
    others = [option(k, "annoy", 64, 0.1, 250) for k in PLANNED_K if k not in said]
    return make_plan([*options, *others], TARGET, timer, forced=forced, probe_count=7)


def picks(plan: Plan, k: int) -> list[tuple[str, int]]:
    return [(each.source, each.reduced_dim) for each in plan.entries if each.k == k]


def test_the_cheapest_that_meets_the_target_by_its_lower_end_is_planned_for_single_queries_and_batches_apart() -> None:
    plan = planned(option(10, "annoy", 64, 0.96, 500), option(10, "scan", 32, 0.951), option(10, "scan", 128, 0.99))
    assert picks(plan, 10) == [("annoy", 64), ("scan", 32)]
    plan = planned(option(10, "annoy", 64, 0.949, 500), option(10, "scan", 32, 0.949), option(10, "scan", 128, 0.95))
    assert picks(plan, 10) == [("scan", 128), ("scan", 128)]


def test_exact_search_is_planned_where_all_miss_or_cost_more() -> None:
    plan = planned(option(10, "annoy", 64, 0.94, 500), option(10, "scan", 128, 0.96, depth=5000))
    assert picks(plan, 10) == [("exact", 0), ("exact", 0)]
    assert picks(plan, 100) == [("exact", 0), ("exact", 0)]
    assert all((each.recall, each.recall_low, each.depth) == (1.0, 1.0, 0) for each in plan.entries)
    assert (plan.chosen, plan.best) == (None, Recall(0.97, 0.96))
    assert plan.sources == {("exact", 0)}


def test_there_is_an_entry_for_each_planned_number_of_hits_single_and_batch() -> None:
    assert [(each.k, each.batch) for each in planned().entries] == [(k, batch) for k in PLANNED_K for batch in (False, True)]


def test_a_forced_engine_is_planned_alone_and_at_its_best_where_it_misses() -> None:
    plan = planned(
        option(10, "annoy", 64, 0.5, 250), option(10, "annoy", 64, 0.9, 500), option(10, "scan", 32, 0.99),
        option(100, "annoy", 64, 0.97, 500, 400), option(100, "annoy", 64, 0.98, 500, 1000), forced=True,
    )  # fmt: skip
    assert {each.source for each in plan.entries} == {"annoy"}
    assert [each.recall_low for each in plan.entries if each.k == 10] == [0.9, 0.9]
    assert [each.depth for each in plan.entries if each.k == 100] == [400, 400]
    assert plan.chosen is not None
    assert (plan.chosen.search_k, plan.chosen.recall_low) == (500, 0.9)


def test_the_curve_is_annoys_for_ten_hits_of_single_queries_and_what_is_chosen_is_of_it() -> None:
    tried = [option(10, "annoy", 64, low, search_k) for low, search_k in ((0.9, 250), (0.96, 500), (0.99, 1000))]
    plan = planned(*tried, option(1, "annoy", 64, 0.99, 250), option(10, "scan", 32, 0.99))
    assert [point.recall_low for point in plan.curve] == [0.9, 0.96, 0.99]
    assert plan.chosen == plan.curve[1]


def test_annoy_is_not_chosen_for_ten_hits_if_it_misses_there_though_it_has_a_part() -> None:
    plan = planned(option(1, "annoy", 64, 0.96, 250), option(10, "annoy", 64, 0.9, 250), option(10, "scan", 32, 0.99))
    assert picks(plan, 1)[0] == ("annoy", 64)
    assert plan.chosen is None
    assert len(plan.curve) == 1


def test_only_what_may_be_used_is_timed() -> None:
    timed = []

    def counting(option: Option, batch: bool) -> float:
        timed.append(option)
        return 1.0

    worse = [option(k, "scan", 32, 0.2) for k in PLANNED_K]
    more = [option(100, "scan", 128, 0.97, depth=each) for each in (200, 400)]
    make_plan([*worse, *more], TARGET, counting, forced=False, probe_count=1)
    assert {each.effort.depth for each in timed if each.source == "scan"} == {200}
