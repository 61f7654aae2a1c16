"""`suspects.csv`: doubtful labels, to be looked at, edited and given to a training that leaves them out."""

import csv
import io
from collections.abc import Iterable

from lookalike_trainer.data_checks.findings import Suspect

COLUMNS = ("path", "label", "suspected_label", "score", "reason")


def suspects_csv(suspects: Iterable[Suspect]) -> str:
    """The lines, a header first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(suspect, column) for column in COLUMNS] for suspect in suspects)
    return text.getvalue()
