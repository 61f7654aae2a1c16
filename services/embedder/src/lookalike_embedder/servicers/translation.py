"""What both servicers say in protobuf."""

from __future__ import annotations

from google.rpc.status_pb2 import Status

from lookalike_images import PictureError
from lookalike_protos.types.v1 import space_pb2
from lookalike_runtime.errors import InvalidArgument
from lookalike_runtime.status import status_of


def space_message(fingerprint: str, model: str, version: int, profile: str, dim: int) -> space_pb2.Space:
    """Return a space as it travels."""
    return space_pb2.Space(fingerprint=fingerprint, model=model, version=version, profile=profile, dim=dim, metric=space_pb2.METRIC_COSINE)


def picture_status(error: PictureError) -> Status:
    """Return why a picture has no vector."""
    return status_of(InvalidArgument(error.reason.value, error.message))
