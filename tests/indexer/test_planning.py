from __future__ import annotations

from lookalike_indexer.builds.planning import PLANNED_K, Plan, make_plan, worth_timing
from lookalike_indexer.records import Index, PlanEntry, Source

TARGET = 0.95
ANNOY, SCAN, WIDE = Index("annoy", 64, trees=100), Index("scan", 32), Index("scan", 128)
# What each index costs a single query, and a query of a batch.
TIMES: dict[Index, tuple[float, float]] = {ANNOY: (1.0, 1.0), SCAN: (2.0, 0.4), WIDE: (4.0, 0.6), Index("exact"): (9.0, 3.0)}


def tried(k: int, index: Index, low: float, search_k: int = 0, depth: int = 50, *, timed: bool = True) -> list[PlanEntry]:
    """An option for single queries and batches."""
    cost = 1 + depth / 1000 + search_k / 10_000
    times = (TIMES.get(index, (1.0, 1.0))[batch] * cost * timed for batch in (False, True))
    recall = min(1.0, low + 0.01)
    fields = {**index._asdict(), "search_k": search_k, "depth": depth, "recall": recall, "recall_low": low}
    return [PlanEntry(k=k, batch=bool(batch), milliseconds=each, **fields) for batch, each in enumerate(times)]


def exact() -> list[PlanEntry]:
    return [entry for k in PLANNED_K for entry in tried(k, Index("exact"), 1.0, depth=0)]


def planned(*options: list[PlanEntry], forced: Source | None = None) -> Plan:
    return make_plan([*exact(), *(each for option in options for each in option)], TARGET, forced=forced, probe_count=7)


def picks(plan: Plan, k: int) -> list[Index]:
    return [each.index for each in plan.entries if each.k == k]


def test_the_cheapest_that_meets_the_target_by_its_lower_end_is_planned_for_single_queries_and_batches_apart() -> None:
    plan = planned(tried(10, ANNOY, 0.96, 500), tried(10, SCAN, 0.951), tried(10, WIDE, 0.99))
    assert picks(plan, 10) == [ANNOY, SCAN]
    plan = planned(tried(10, ANNOY, 0.949, 500), tried(10, SCAN, 0.949), tried(10, WIDE, 0.95))
    assert picks(plan, 10) == [WIDE, WIDE]


def test_exact_search_is_planned_where_all_miss_or_cost_more() -> None:
    plan = planned(tried(10, ANNOY, 0.94, 500), tried(10, WIDE, 0.96, depth=5000))
    assert picks(plan, 10) == picks(plan, 100) == [Index("exact"), Index("exact")]
    assert plan.chosen is None
    assert plan.best is not None
    assert plan.best.recall_low == 0.96
    assert plan.indexes == set()


def test_there_is_an_entry_for_each_planned_number_of_hits_single_and_batch() -> None:
    assert [(each.k, each.batch) for each in planned().entries] == [(k, batch) for k in PLANNED_K for batch in (False, True)]


def test_what_was_not_timed_is_not_planned() -> None:
    assert picks(planned(tried(10, SCAN, 0.99, timed=False), tried(10, WIDE, 0.99)), 10) == [WIDE, WIDE]


def test_what_has_lost_its_file_is_not_planned() -> None:
    options = [*exact(), *tried(10, SCAN, 0.99), *tried(10, WIDE, 0.99)]
    plan = make_plan(options, TARGET, forced=None, probe_count=1, lost={SCAN})
    assert picks(plan, 10) == [WIDE, WIDE]
    assert len(plan.measured) == len(options)


def test_a_forced_engine_is_planned_alone_and_at_its_best_where_it_misses() -> None:
    plan = planned(
        tried(10, ANNOY, 0.5, 250), tried(10, ANNOY, 0.9, 500), tried(10, SCAN, 0.99),
        tried(100, ANNOY, 0.97, 500, 400), tried(100, ANNOY, 0.98, 500, 1000), forced="annoy",
    )  # fmt: skip
    assert {each.source for each in plan.entries} == {"annoy"}
    assert [each.recall_low for each in plan.entries if each.k == 10] == [0.9, 0.9]
    assert [each.depth for each in plan.entries if each.k == 100] == [400, 400]
    assert plan.chosen is not None
    assert (plan.chosen.search_k, plan.chosen.recall_low) == (500, 0.9)


def test_the_curve_is_that_of_the_annoy_in_the_plan_for_ten_hits_of_single_queries() -> None:
    other = Index("annoy", 32, trees=50)
    options = [tried(10, ANNOY, low, search_k) for low, search_k in ((0.9, 250), (0.96, 500), (0.99, 1000))]
    plan = planned(*options, tried(1, ANNOY, 0.99, 250), tried(10, SCAN, 0.99), tried(10, other, 0.999, 5000))
    assert [point.recall_low for point in plan.curve] == [0.9, 0.96, 0.99]
    assert plan.chosen == plan.curve[1]
    assert plan.annoy == ANNOY
    # Without a part in the plan the most thorough is shown.
    assert [point.recall_low for point in planned(tried(10, ANNOY, 0.8), tried(10, other, 0.9)).curve] == [0.9]


def test_annoy_is_not_chosen_for_ten_hits_if_it_misses_there_though_it_has_a_part() -> None:
    plan = planned(tried(1, ANNOY, 0.96, 250), tried(10, ANNOY, 0.9, 250), tried(10, SCAN, 0.99))
    assert picks(plan, 1)[0] == ANNOY
    assert plan.chosen is None
    assert len(plan.curve) == 1


def test_only_what_may_be_the_cheapest_to_some_recall_is_timed() -> None:
    lows = {(250, 20): 0.7, (250, 50): 0.85, (500, 20): 0.84, (500, 50): 0.955, (1000, 50): 0.96, (1000, 100): 0.995}
    options = [tried(10, ANNOY, low, *effort)[0] for effort, low in lows.items()]
    timed = {(each.search_k, each.depth) for each in worth_timing(options, TARGET)}
    # To .8 either of the first two that reach it, to .9 and the target one, to .99 the last.
    assert timed == {(250, 50), (500, 20), (500, 50), (1000, 100)}
    assert [each.depth for each in worth_timing(options[:1], TARGET)] == [20]
