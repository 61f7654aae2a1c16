"""Figures of an epoch by name, for events, results and bundles."""

from lookalike_model import bundle as bundles
from lookalike_trainer.training.state import EpochFigures, Scores


def flat_metrics(scores: Scores, figures: EpochFigures | None) -> dict[str, float]:
    """Flat figures; those of another profile than `plain` end in its name."""
    metrics: dict[str, float] = {}
    if figures is not None:
        metrics["train_loss"] = figures.loss
        metrics["distance_spread"] = figures.spread
        metrics["rate"] = figures.rate
        metrics["pictures_per_second"] = figures.pictures_per_second
    for profile, each in scores.items():
        suffix = "" if profile == "plain" else f"_{profile}"
        metrics[f"heldout_map{suffix}"] = each.map
        metrics[f"heldout_map_low{suffix}"] = each.low
        metrics[f"heldout_map_high{suffix}"] = each.high
        metrics[f"heldout_r1{suffix}"] = each.r1
    return metrics


def bundle_metrics(scores: Scores) -> dict[str, bundles.Metric]:
    """The same for the bundle, with intervals."""
    figures = {}
    for profile, each in scores.items():
        suffix = "" if profile == "plain" else f"_{profile}"
        figures[f"heldout_map{suffix}"] = bundles.Metric(value=each.map, ci95=(each.low, each.high))
        figures[f"heldout_r1{suffix}"] = bundles.Metric(value=each.r1)
    return figures
