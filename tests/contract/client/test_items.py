"""Items looked at, counted and changed, and what is left of deleted ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import BuildSpec, Client, DType, Item, ItemChange, Space, filters

Run = Callable[..., Any]
SPACE = Space("ls1:" + "c" * 64, "shoes", 1, "plain", 8)


@pytest.fixture
def filled(client: Client, request: pytest.FixtureRequest) -> str:
    """A collection of its own with four items, two of them boots."""
    name = f"of-{abs(hash(request.node.name))}"
    client.indexer.create_collection(name, SPACE, dtype=DType.FLOAT16)
    items = [Item(f"{n}.png", "boot" if n < 2 else "sandal", payload={"price": n, "deep": {"x": True}}) for n in range(4)]
    client.indexer.upsert_items(f"collections/{name}", items, np.eye(8, dtype=np.float32)[:4], SPACE)
    return name


def test_changes_and_counts_of_values_come_through_the_client(client: Client, filled: str) -> None:
    name = f"collections/{filled}"
    assert client.indexer.get_collection(name).dtype is DType.FLOAT16
    changes = [ItemChange(Item(f"{n}.png", "shoe", payload={"price": "much"}), ("label", "payload.price", "payload.deep")) for n in (0, 1)]
    done = client.indexer.update_items(name, [*changes, ItemChange(Item("nobody"), ("label",))])
    assert (done.updated_count, done.revision, done.collection) == (2, 2, name)
    assert done.failures["nobody"].reason == "ITEM_NOT_FOUND"
    (item,) = client.indexer.get_items(name, ["0.png"])
    assert (item.label, item.payload) == ("shoe", {"price": "much"})
    counts = client.indexer.count_values(name, "payload.price")
    assert [(each.value, each.count) for each in counts.values] == [("much", 2), (2.0, 1), (3.0, 1)]
    assert client.indexer.count_values(name, "payload.deep.x", filter=filters.Equals("label", "shoe")).missing_count == 2
    assert client.indexer.count_values(name, "label", limit=1).distinct_count == 2
    many = [ItemChange(Item(f"none{n}"), ("label",)) for n in range(1001)]
    assert len(client.indexer.update_items(name, many).failures) == 1001


def test_an_alias_is_looked_at(client: Client, filled: str) -> None:
    made = client.indexer.create_alias(f"alias-of-{filled}", f"collections/{filled}")
    assert client.indexer.get_alias(made.name) == made
    client.indexer.delete_alias(made.name)


def test_a_pinned_build_says_so(client: Client, filled: str, run: Run) -> None:
    build = client.indexer.create_build(f"collections/{filled}", BuildSpec(force_engine=True))
    client.indexer.wait_for_build(build.name)
    shown = run("collections", "show", filled).out
    assert "builds follow by themselves" in shown
    assert "hits up to" in shown
    assert "annoy" in shown
    activated = client.indexer.activate_build(build.name)
    assert (activated.pinned, activated.kept, activated.automatic) == (True, True, False)
    assert "it is pinned" in run("collections", "show", filled).out


def test_items_are_listed_counted_changed_and_deleted_from_the_command_line(run: Run, filled: str) -> None:
    assert [each["id"] for each in run("items", "list", filled, "--label", "boot", "--json").document["items"]] == ["0.png", "1.png"]
    assert "1.png" not in run("items", "list", filled, "--limit", 1).out
    assert run("items", "count", filled).out == "4 items\n"
    assert run("items", "count", filled, "--label", "boot", "--label", "sandal").out == "4 items\n"
    done = run(
        "items", "update", filled, "0.png", "nobody", "--label", "shoe", "--set", "price=9.5", "--set", "note=new", "--unset", "deep"
    )
    assert "1 items were changed, 1 were not" in done.out
    assert "nobody: no such item" in done.err
    (item,) = run("items", "list", filled, "--label", "shoe", "--json").document["items"]
    assert item["payload"] == {"price": 9.5, "note": "new"}
    values = run("items", "values", filled, "--json").document["values"]
    assert [(each["value"], each["count"]) for each in values] == [("sandal", 2), ("boot", 1), ("shoe", 1)]
    assert "9.5" in run("items", "values", filled, "--path", "payload.price").out
    assert run("items", "values", filled, "--path", "nonsense").status == 2
    assert run("items", "delete", filled, "0.png", "nobody", "--yes").out == "1 items were deleted\n"
    assert run("items", "delete", filled, "--label", "sandal", "--yes").out == "2 items were deleted\n"
    assert run("items", "count", "nowhere").status == 1


def test_conditions_narrow_what_commands_are_about(run: Run, filled: str) -> None:
    for condition, count in (
        ("payload.price<2", 2),
        ("payload.price>=1", 3),
        ("payload.price=1|2", 2),
        ('payload.price="1"', 0),
        ("payload.deep.x=true", 4),
        ("!payload.sold?", 4),
        ("label!=boot|sandal", 0),
        ("id^=0", 1),
    ):
        assert run("items", "count", filled, "--where", condition).out == f"{count} items\n", condition
    both = ("--label", "boot", "--where", "payload.price>0", "--where", "payload.price?")
    assert [each["id"] for each in run("items", "list", filled, *both, "--json").document["items"]] == ["1.png"]
    values = run("items", "values", filled, "--where", "payload.price>0", "--json").document["values"]
    assert [(each["value"], each["count"]) for each in values] == [("sandal", 2), ("boot", 1)]
    refused = run("items", "delete", filled, "--where", "payload.price<cheap", "--yes")
    assert (refused.status, refused.out) == (2, "")
    assert "--where 'payload.price<cheap', at character 15: < takes one number; such as payload.price<100" in refused.err
    assert run("items", "delete", filled, "--where", "payload.price<1", "--yes").out == "1 items were deleted\n"
    assert run("items", "count", filled).out == "3 items\n"


def test_a_purge_is_one_command(run: Run, client: Client, filled: str, data: Path) -> None:
    client.indexer.upsert_items(f"collections/{filled}", [Item("secret-marker")], np.ones((1, 8), np.float32), SPACE)
    client.indexer.delete_items(f"collections/{filled}", ["secret-marker"])
    folder = data / "indexer" / "collections" / client.indexer.get_collection(f"collections/{filled}").uid

    def left() -> bool:
        return any(b"secret-marker" in path.read_bytes() for path in folder.rglob("*") if path.is_file())

    assert left()
    done = run("collections", "purge", filled, "--json")
    assert done.status == 0, done.err
    assert done.document["spec"]["purge"]
    assert not left()
