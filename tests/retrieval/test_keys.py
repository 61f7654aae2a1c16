import numpy as np

from lookalike_retrieval import _keys


def test_keys_sort_by_score_descending_then_by_row_and_give_both_back() -> None:
    rng = np.random.default_rng(0)
    scores = rng.choice(np.array([-2, -1e-30, -1, 0, 1e-45, 1, 3e38, -3e38], np.float32), 200)
    rows = rng.permutation(np.uint32(2**32 - 1) - np.arange(200, dtype=np.uint32))
    keys = np.sort(_keys.pack(scores, rows))
    expected = sorted(zip(scores.tolist(), rows.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
    unpacked_scores, unpacked_rows = _keys.unpack(keys)
    assert list(zip(unpacked_scores.tolist(), unpacked_rows.tolist(), strict=True)) == expected
    assert (keys < _keys.LAST).all()


def test_zero_and_minus_zero_are_one_score() -> None:
    scores, rows = np.array([0.0, -0.0], np.float32), np.array([1, 0], np.uint32)
    assert _keys.unpack(np.sort(_keys.pack(scores, rows)))[1].tolist() == [0, 1]
