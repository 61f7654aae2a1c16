"""Seconds since 1970 as protobuf writes them."""

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(seconds: float) -> Timestamp:
    """The message for a time in seconds since 1970."""
    return Timestamp(seconds=int(seconds // 1), nanos=int(seconds % 1 * 1e9))
