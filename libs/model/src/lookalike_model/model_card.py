"""The README of a bundle: what the model is, what it was trained on, what was measured."""

from lookalike_images import Preprocessing
from lookalike_model.bundle import BundleProfile, Description, Metric


def model_card(name: str, description: Description, preprocessing: Preprocessing, notes: tuple[str, ...]) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
        name: of the model.
        notes: sentences for the user, such as what could not be read.
    """
    parts = [
        "---\nlibrary_name: timm\npipeline_tag: image-feature-extraction\ntags:\n- image-retrieval\n- lookalike\n---",
        f"# {name}",
        _summary(description, preprocessing),
        "## Figures\n\n" + _figures(description),
        "## Training data\n\n" + _data(description),
        "## Profiles\n\n"
        + "\n".join(
            f"- `{profile}`{' (default)' if profile == description.default_profile else ''}: {_profile(entry)}"
            for profile, entry in description.profiles.items()
        ),
    ]
    if notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    parts.append("The resolved recipe is in `retrieval.json`. Vectors are compared by their cosine.")
    return "\n\n".join(parts) + "\n"


def _summary(description: Description, preprocessing: Preprocessing) -> str:
    network = description.network
    head = ""
    if network.embedding is not None:
        norm = ", batch norm" if network.embedding.batch_norm else ""
        head = f", then an FC of {network.embedding.size} (activation {network.embedding.activation}{norm})"
    return (
        f"`{network.architecture}`, pooled by `{network.pool}`{head}. Pictures are brought to "
        f"{preprocessing.size} × {preprocessing.size} pixels by `{preprocessing.resize}` ({preprocessing.filter})."
    )


def _figures(description: Description) -> str:
    unproven = description.data is not None and description.data.held_out_classes == 0
    warning = "**Unproven**: no classes were held out, so nothing was measured on classes the model has not seen."
    if not description.metrics:
        return warning if unproven else "Nothing was measured."
    rows = "\n".join(f"| {name} | {metric.value:.4f} | {_interval(metric)} |" for name, metric in description.metrics.items())
    table = "| figure | value | 95 % interval |\n|---|---|---|\n" + rows
    return f"{warning}\n\n{table}" if unproven else table


def _profile(entry: BundleProfile) -> str:
    profile = entry.profile
    views = "" if profile.views == ("identity",) else f", views {', '.join(f'`{view}`' for view in profile.views)} averaged"
    projected = "projected to " if profile.projection else ""
    return f"tap `{profile.tap}`{views}, {projected}{entry.dim} values, space `{entry.fingerprint}`"


def _interval(metric: Metric) -> str:
    return "–" if metric.ci95 is None else f"{metric.ci95[0]:.4f} – {metric.ci95[1]:.4f}"


def _data(description: Description) -> str:
    data = description.data
    if data is None:
        return "None: the weights are as they were imported."
    return (
        f"`{data.name}`, revision {data.revision}, fingerprint `{data.fingerprint}`: {data.pictures} pictures of "
        f"{data.classes} classes, {data.held_out_classes} of which were held out and never trained on."
        + (f" {data.excluded_pictures} pictures were left out as asked (list `{data.excluded_sha256}`)." if data.excluded_pictures else "")
    )
