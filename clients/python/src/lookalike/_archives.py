"""Collections out of the indexer into a file, and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path

from lookalike._channel import Channel
from lookalike._config import Timeouts
from lookalike._exceptions import InputError, Unavailable, WorkIncomplete
from lookalike._files import bytes_written_whole
from lookalike._models import Collection, Exported
from lookalike._status import BROKEN_WHILE_SENDING
from lookalike._wire import read
from lookalike_protos.indexer.v1 import snapshots_pb2, snapshots_pb2_grpc

_PIECE_BYTES = 1 << 20


class AsyncArchives:
    """Part of `AsyncIndexer`."""

    def __init__(self, channel: Channel, timeouts: Timeouts) -> None:
        self._archive_channel = channel
        self._archive_timeouts = timeouts
        self._snapshots = snapshots_pb2_grpc.SnapshotServiceStub(channel.grpc)

    async def export_collection(self, collection: str, file: Path, received: Callable[[int], None] | None = None) -> Exported:
        """Write all items of `collections/C`, as of one revision, as an archive to `file`, which is there whole or not at all.

        `received` is called with the number of bytes that came since the call before. Raises InputError where nothing can be written.
        """
        request = snapshots_pb2.ExportCollectionRequest(collection=collection)
        answers = self._archive_channel.stream(self._snapshots.ExportCollection, request, lambda: self._archive_timeouts.upload)
        exported: Exported | None = None
        with bytes_written_whole(file) as archive:
            async for answer in answers:
                if answer.WhichOneof("message") == "start":
                    exported = read(Exported, answer.start)
                    continue
                archive.write(answer.data)
                if received:
                    received(len(answer.data))
            if exported is None:
                raise WorkIncomplete(f"the indexer ended the export of {collection} before its start: try again")
        return exported

    async def import_collection(
        self, file: Path, collection_id: str, *, expire_time: datetime | None = None, sent: Callable[[int], None] | None = None
    ) -> Collection:
        """Make `collections/<collection_id>` of the archive in `file`; it appears once every file in the archive is proven, or not at all.

        `sent` is called with the number of bytes that were handed over since the call before. Raises InputError for a file that cannot
        be read.
        """
        start = snapshots_pb2.ImportStart(collection_id=collection_id)
        if expire_time is not None:
            start.expire_time.FromDatetime(expire_time)
        try:
            request = _requests(start, file, sent)
            answer = await self._archive_channel.unary(self._snapshots.ImportCollection, request, self._archive_timeouts.upload)
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}", reason="NOT_READABLE") from None
        except Unavailable as error:
            if error.reason == BROKEN_WHILE_SENDING:
                # The server refused it before all was sent; a header alone is refused for the same reason, if that was it.
                await self._archive_channel.unary(self._snapshots.ImportCollection, _only(start), self._archive_timeouts.call)
            raise
        return read(Collection, answer)


async def _requests(
    start: snapshots_pb2.ImportStart, file: Path, sent: Callable[[int], None] | None
) -> AsyncIterator[snapshots_pb2.ImportCollectionRequest]:
    with file.open("rb") as archive:
        yield snapshots_pb2.ImportCollectionRequest(start=start)
        while piece := archive.read(_PIECE_BYTES):
            yield snapshots_pb2.ImportCollectionRequest(data=piece)
            if sent:
                sent(len(piece))


async def _only(start: snapshots_pb2.ImportStart) -> AsyncIterator[snapshots_pb2.ImportCollectionRequest]:
    yield snapshots_pb2.ImportCollectionRequest(start=start)
