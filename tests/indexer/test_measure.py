from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lookalike_indexer.builds.measure import cheapest, choose_probes, measure, wilson_low
from lookalike_indexer.candidates.annoy import AnnoyCandidates, Effort, write_trees
from lookalike_indexer.records import EffortPoint
from lookalike_retrieval import augment, normalise


def test_wilsons_lower_end_is_the_textbooks() -> None:
    # R. G. Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I: 81/263, 15/148, 0/20, 1/29.
    for hits, trials, low in ((81, 263, 0.2553), (15, 148, 0.0624), (0, 20, 0.0), (1, 29, 0.0061)):
        assert wilson_low(hits / trials, trials) == pytest.approx(low, abs=1e-4)


def test_a_perfect_measurement_of_few_probes_is_not_taken_for_certain() -> None:
    assert wilson_low(1.0, 20) < 0.9 < wilson_low(1.0, 1000) < 1


@pytest.mark.parametrize("k", [0, 3])
def test_recall_is_what_a_plain_loop_counts_with_probes_left_out_on_both_sides(tmp_path: Path, k: int) -> None:
    rng = np.random.default_rng(2)
    raw = normalise(rng.standard_normal((400, 16)))
    served = augment(raw, k)
    write_trees(served, tmp_path, trees=4, reduced_dim=4)
    source = AnnoyCandidates(tmp_path, 16, Effort(0, 0))
    probes = choose_probes(raw, served)
    assert len(probes.rows) == 40
    curve = measure(source, served, probes, 2.0, lambda _: None)
    assert len(curve) == 8 * 3
    for point in (curve[0], curve[-1], min(curve, key=lambda point: point.recall)):
        shares = []
        for row in probes.rows.tolist():
            query = raw[row]
            truth = sorted((each for each in range(400) if each != row), key=lambda each: -float(served[each] @ query))[:10]
            candidates = source.nearest(source.reduce(query[None])[0], Effort(point.search_k, point.depth))
            found = sorted((each for each in candidates if each != row), key=lambda each: -float(served[each] @ query))[:10]
            shares.append(len(set(found) & set(truth)) / 10)
        assert point.recall == pytest.approx(np.mean(shares), abs=1e-9)
        assert point.recall_low == wilson_low(point.recall, 40)


def test_the_cheapest_that_meets_the_target_by_its_lower_end_is_chosen() -> None:
    def point(low: float, milliseconds: float) -> EffortPoint:
        return EffortPoint(search_k=1, depth=1, recall=1, recall_low=low, milliseconds=milliseconds)

    curve = (point(0.94, 1), point(0.96, 2), point(0.99, 3))
    assert cheapest(curve, 0.95) == curve[1]
    assert cheapest(curve, 0.995) is None
