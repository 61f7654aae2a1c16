from __future__ import annotations

from lookalike_embedder.lanes import TURNS_AHEAD, Lane, LaneQueue


def test_interactive_goes_ahead_of_bulk_that_came_first() -> None:
    queue: LaneQueue[str, int] = LaneQueue()
    queue.put(Lane.BULK, "stream", 1)
    queue.put(Lane.INTERACTIVE, "call", 2)
    assert [queue.take(1), queue.take(1), queue.take(1)] == [[2], [1], []]


def test_bulk_has_its_turn_however_many_interactive_calls_wait() -> None:
    queue: LaneQueue[str, str] = LaneQueue()
    for number in range(50):
        queue.put(Lane.INTERACTIVE, "call", f"call {number}")
        queue.put(Lane.BULK, "stream", "bulk")
    turns = [queue.take(1)[0] == "bulk" for _ in range(50)]
    assert sum(turns) == 50 // (TURNS_AHEAD + 1)
    assert not turns[0]


def test_keys_of_a_lane_take_turns() -> None:
    queue: LaneQueue[str, int] = LaneQueue()
    for number in range(4):
        queue.put(Lane.BULK, "a", number)
    queue.put(Lane.BULK, "b", 10)
    assert [queue.take(2), queue.take(2), queue.take(2), queue.take(2)] == [[0, 1], [10], [2, 3], []]


def test_next_turn_is_what_take_then_gives() -> None:
    queue: LaneQueue[str, int] = LaneQueue()
    assert queue.next_turn() is None
    queue.put(Lane.BULK, "a", 1)
    queue.put(Lane.BULK, "a", 2)
    turn = queue.next_turn()
    assert turn is not None
    assert (turn.lane, turn.key, turn.waiting, turn.oldest) == (Lane.BULK, "a", 2, 1)
    assert queue.take(9) == [1, 2]
