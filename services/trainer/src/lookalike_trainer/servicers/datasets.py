"""DatasetService on the wire."""

# ruff: noqa: ARG002, N802 (names and arguments are gRPC's)

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from lookalike_protos.trainer.v1 import datasets_pb2 as pb
from lookalike_protos.trainer.v1.datasets_pb2_grpc import DatasetServiceServicer
from lookalike_runtime.errors import invalid_field
from lookalike_runtime.paging import decode_token, encode_token, page_size
from lookalike_runtime.resource_names import parse_name, parse_optional_version
from lookalike_trainer.blobs import BlobStore, check_sha256
from lookalike_trainer.datasets import Datasets, Revision
from lookalike_trainer.folder_import import folder_of, import_folder
from lookalike_trainer.inspection import Inspection
from lookalike_trainer.manifest import Entry, ManifestDraft
from lookalike_trainer.manifest_findings import ManifestFindings
from lookalike_trainer.servicers.timestamps import timestamp

MAX_DIGESTS = 10_000
MAX_ENTRIES_A_MESSAGE = 10_000

Context = grpc.aio.ServicerContext[Any, Any]


class DatasetServicer(DatasetServiceServicer):
    """Translates calls about datasets."""

    def __init__(self, datasets: Datasets, blobs: BlobStore, import_roots: Sequence[Path], inspection: Inspection) -> None:
        self._datasets = datasets
        self._blobs = blobs
        self._import_roots = import_roots
        self._inspection = inspection

    async def FindMissingBlobs(self, request: pb.FindMissingBlobsRequest, context: Context) -> pb.FindMissingBlobsResponse:
        if len(request.sha256) > MAX_DIGESTS:
            raise invalid_field("sha256", f"{len(request.sha256)} digests, at most {MAX_DIGESTS} a call")
        digests = [check_sha256(f"sha256[{index}]", digest) for index, digest in enumerate(request.sha256)]
        missing = await asyncio.to_thread(self._blobs.missing, digests)
        return pb.FindMissingBlobsResponse(missing_sha256=missing)

    async def UploadBlobs(self, requests: AsyncIterator[pb.UploadBlobsRequest], context: Context) -> pb.UploadBlobsResponse:
        with self._blobs.receive() as receiver:
            async for chunk in requests:
                await asyncio.to_thread(receiver.receive, chunk.sha256, chunk.size_bytes, chunk.data)
            await asyncio.to_thread(receiver.end)
        return pb.UploadBlobsResponse(blob_count=receiver.blob_count, size_bytes=receiver.byte_count)

    async def CommitRevision(self, requests: AsyncIterator[pb.CommitRevisionRequest], context: Context) -> pb.DatasetRevision:
        dataset = ""
        draft = ManifestDraft()
        first = True
        async for request in requests:
            if first:
                (dataset,) = parse_name("dataset", request.dataset, "datasets")
            elif request.dataset:
                raise invalid_field("dataset", "stands in the first message only")
            first = False
            await asyncio.to_thread(_draw_up, draft, request.entries)
        if first:
            raise invalid_field("dataset", "no message came: the first names the dataset")
        manifest = await asyncio.to_thread(draft.finish)
        return _revision(await asyncio.to_thread(self._datasets.commit, dataset, manifest))

    async def ImportRevision(self, request: pb.ImportRevisionRequest, context: Context) -> pb.DatasetRevision:
        (dataset,) = parse_name("dataset", request.dataset, "datasets")
        return _revision(await asyncio.to_thread(self._import, dataset, request.uri))

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        size = page_size(request.page_size)
        found = await asyncio.to_thread(self._datasets.page, decode_token(request.page_token) or "", size + 1)
        datasets = [pb.Dataset(name=f"datasets/{revision.dataset}", latest=_revision(revision)) for revision in found[:size]]
        token = encode_token(found[size - 1].dataset) if len(found) > size else ""
        return pb.ListDatasetsResponse(datasets=datasets, next_page_token=token)

    async def GetRevision(self, request: pb.GetRevisionRequest, context: Context) -> pb.DatasetRevision:
        name, number = parse_optional_version("name", request.name, "datasets", "revisions")
        return _revision(await asyncio.to_thread(self._datasets.get, name, number))

    async def InspectRevision(self, request: pb.InspectRevisionRequest, context: Context) -> pb.RevisionFindings:
        name, number = parse_optional_version("name", request.name, "datasets", "revisions")
        return _findings(*await asyncio.to_thread(self._inspection.inspect, name, number))

    async def DeleteDataset(self, request: pb.DeleteDatasetRequest, context: Context) -> Empty:
        (name,) = parse_name("name", request.name, "datasets")
        await asyncio.to_thread(self._datasets.delete, name)
        return Empty()

    def _import(self, dataset: str, uri: str) -> Revision:
        folder = folder_of(uri, self._import_roots)
        return self._datasets.commit(dataset, import_folder(folder, self._import_roots, self._blobs))


def _draw_up(draft: ManifestDraft, entries: Sequence[pb.ManifestEntry]) -> None:
    if len(entries) > MAX_ENTRIES_A_MESSAGE:
        raise invalid_field("entries", f"{len(entries)} in a message, at most {MAX_ENTRIES_A_MESSAGE}")
    for index, entry in enumerate(entries):
        draft.add(f"entries[{index}]", Entry(entry.path, entry.label, entry.sha256, entry.size_bytes))


def _revision(revision: Revision) -> pb.DatasetRevision:
    return pb.DatasetRevision(
        name=revision.name,
        fingerprint=revision.fingerprint,
        picture_count=revision.pictures,
        class_count=revision.classes,
        single_picture_class_count=revision.single_picture_classes,
        size_bytes=revision.size,
        create_time=timestamp(revision.create_time),
    )


def _findings(revision: Revision, findings: ManifestFindings, job: str | None) -> pb.RevisionFindings:
    sizes = [pb.ClassSizes(from_pictures=bar.fewest, to_pictures=bar.most, class_count=bar.classes) for bar in findings.sizes]
    return pb.RevisionFindings(
        revision=revision.name,
        class_sizes=sizes,
        small_class_count=findings.small_count,
        small_classes=[pb.SmallClass(label=each.label, picture_count=each.pictures) for each in findings.small],
        copy_count=findings.copy_count,
        copies=[pb.Copies(paths=each.paths, labels=each.labels, picture_count=each.pictures) for each in findings.copies],
        job=f"jobs/{job}" if job else "",
    )
