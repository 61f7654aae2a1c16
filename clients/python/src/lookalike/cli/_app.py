"""The command's tree; each group's commands live in a module of its own."""

from __future__ import annotations

import typer


def _group(help_text: str) -> typer.Typer:
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


app = _group(
    "Visual search on your own machines: train, embed, index, search, and prove it.\n\n"
    "Exit status: 0 done, 1 failed or stopped by Ctrl-C, 2 wrong usage."
)
app.info.context_settings = {"help_option_names": ["-h", "--help"]}
dataset = _group("Labelled pictures to train on.")
recipes = _group("What is decided about a training.")
models = _group("Models and their versions.")
jobs = _group("Work of the trainer: training and imports.")
collections = _group("Collections of pictures that can be searched, and aliases of them.")
builds = _group("Builds of a collection: what answers its searches, and how well.")
items = _group("Items of a collection.")

SERVERS = "Servers"
LEARN = "Learn"
SEARCH = "Search"
PROVE = "Prove"

app.add_typer(dataset, name="dataset", rich_help_panel=LEARN)
app.add_typer(recipes, name="recipes", rich_help_panel=LEARN)
app.add_typer(models, name="models", rich_help_panel=LEARN)
app.add_typer(jobs, name="jobs", rich_help_panel=LEARN)
app.add_typer(collections, name="collections", rich_help_panel=SEARCH)
app.add_typer(builds, name="builds", rich_help_panel=SEARCH)
app.add_typer(items, name="items", rich_help_panel=SEARCH)
