"""`report.html` of a job: one file with all that it shows inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from lookalike_trainer.data_checks.findings import Findings
from lookalike_trainer.report.curves import HEIGHT, WIDTH, Box
from lookalike_trainer.report.pictures import SmallPictures
from lookalike_trainer.report.ranking import Ranking, Spread
from lookalike_trainer.training.dataset import Picture

SHOWN_QUERIES = SHOWN_TRIPLETS = SHOWN_CONFUSIONS = 12
SHOWN_SUSPECTS = 60
SHOWN_GROUPS = 20


@dataclass(frozen=True)
class Ranked:
    """Pictures that were ranked, their ranking, and a sentence that says which they are."""

    pictures: Sequence[Picture]
    names: Sequence[str]
    ranking: Ranking
    what: str


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        figures: value, and interval where there is one, by name.
        facts: of the job, by name.
        examples: of the suspected classes, paths by label.
    """

    title: str
    eyebrow: str
    lead: str
    findings: Findings
    small: SmallPictures
    examples: Mapping[str, Sequence[str]]
    facts: Mapping[str, str]
    notes: Sequence[str] = ()
    figures: Mapping[str, tuple[float, tuple[float, float] | None]] = field(default_factory=dict)
    curves: Sequence[Box] = ()
    ranked: Ranked | None = None


def render(page: Page) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader("lookalike_trainer.report", "."), autoescape=select_autoescape(default=True), undefined=StrictUndefined
    )
    return environment.get_template("report.html.jinja").render(
        page=page,
        findings=page.findings,
        picture=page.small.uri,
        box_width=WIDTH,
        box_height=HEIGHT,
        ranked=_ranked(page.ranked) if page.ranked else None,
        shown_suspects=SHOWN_SUSPECTS,
        shown_groups=SHOWN_GROUPS,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _ranked(ranked: Ranked) -> dict[str, object]:
    pictures, ranking = ranked.pictures, ranked.ranking
    worst, best = ranking.queries(SHOWN_QUERIES)
    return {
        "what": ranked.what,
        "pictures": pictures,
        "names": ranked.names,
        "spread": _bars(ranking.spread()),
        "triplets": ranking.hardest(SHOWN_TRIPLETS),
        "confusions": ranking.confusions(SHOWN_CONFUSIONS),
        "worst": worst,
        "best": best,
    }


def _bars(spread: Spread) -> list[dict[str, float]]:
    most = float(max(spread.same.max(), spread.different.max(), 1e-9))
    edges = np.linspace(0, 2, len(spread.same) + 1)
    return [
        {"low": float(low), "width": float(edges[1]), "same": float(same / most), "different": float(different / most)}
        for low, same, different in zip(edges[:-1], spread.same, spread.different, strict=True)
    ]
