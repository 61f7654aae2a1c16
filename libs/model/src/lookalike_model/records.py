"""The base of everything read from JSON: frozen, exact types, no unknown keys."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Record(BaseModel):
    """A value that is written to JSON and read back strictly."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def first_problems(error: ValidationError, limit: int = 3) -> str:
    """`key: what is wrong` of the first problems in a validation error, in one line."""
    problems = [f"{'.'.join(map(str, p['loc'])) or 'document'}: {p['msg']}" for p in error.errors()]
    more = f" (and {len(problems) - limit} more)" if len(problems) > limit else ""
    return "; ".join(problems[:limit]) + more
