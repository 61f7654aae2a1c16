"""`lookalike recipes`: how a training may be done."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from lookalike._names import resource_name
from lookalike.cli._app import recipes
from lookalike.cli._session import Session, command, table


@command(recipes, "list", "lookalike recipes list")
async def list_(session: Session) -> None:
    """List the recipes that come with the trainer."""
    found = await session.client.trainer.list_recipes()
    shown = table("recipe", "what it is")
    for recipe in found:
        shown.add_row(recipe.name.removeprefix("recipes/"), recipe.description)
    session.answer({"recipes": found}, shown)


@command(recipes, "show", "lookalike recipes show triplet-two-pass", "lookalike recipes show triplet-two-pass --file > mine.toml")
async def show(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Recipe.", show_default=False)],
    file: Annotated[bool, typer.Option("--file", help="Only what its own file says, not what it extends and the defaults.")] = False,
) -> None:
    """Show a recipe as TOML: every key that has a value, each of which may be set in a file of your own or by --set."""
    recipe = await session.client.trainer.get_recipe(resource_name("recipes", name))
    # Text, since TOML's brackets are no markup.
    session.answer(recipe, Text((recipe.toml if file else recipe.complete_toml).rstrip("\n")))
