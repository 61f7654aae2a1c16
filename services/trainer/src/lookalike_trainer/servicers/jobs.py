"""JobService on the wire."""

# ruff: noqa: ARG002, N802 (names and arguments are gRPC's)

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from lookalike_protos.trainer.v1 import jobs_pb2 as pb
from lookalike_protos.trainer.v1.jobs_pb2_grpc import JobServiceServicer
from lookalike_protos.types.v1 import operations_pb2
from lookalike_protos.types.v1.files_pb2 import FileChunk
from lookalike_runtime.errors import NotFound, invalid_field
from lookalike_runtime.paging import encode_token, page_size
from lookalike_runtime.resource_names import parse_name
from lookalike_trainer.admission import Admission
from lookalike_trainer.job_folders import FILES, JobFolders
from lookalike_trainer.jobs import Jobs
from lookalike_trainer.servicers.file_messages import file_chunks
from lookalike_trainer.servicers.job_messages import event_message, job_message
from lookalike_trainer.servicers.job_requests import requested_spec
from lookalike_trainer.servicers.number_tokens import decode_number

MAX_REQUEST_ID_BYTES = 128
_EVENTS_A_READ = 500

Context = grpc.aio.ServicerContext[Any, Any]


class JobServicer(JobServiceServicer):
    """Translates calls about jobs."""

    def __init__(self, jobs: Jobs, admission: Admission, folders: JobFolders) -> None:
        self._jobs = jobs
        self._admission = admission
        self._folders = folders

    async def CreateJob(self, request: pb.CreateJobRequest, context: Context) -> pb.Job:
        if not 1 <= len(request.request_id.encode()) <= MAX_REQUEST_ID_BYTES:
            raise invalid_field("request_id", f"1 to {MAX_REQUEST_ID_BYTES} bytes, such as a UUID")
        spec, excluded = requested_spec(request.job), request.job.train.excluded_paths
        return job_message(await asyncio.to_thread(self._admission.create, request.request_id, spec, excluded))

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.Job:
        (uid,) = parse_name("name", request.name, "jobs")
        return job_message(await asyncio.to_thread(self._jobs.get, uid))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        size = page_size(request.page_size)
        found = await asyncio.to_thread(self._jobs.page, decode_number(request.page_token), size + 1)
        token = encode_token(str(found[size - 1].number)) if len(found) > size else ""
        return pb.ListJobsResponse(jobs=[job_message(job) for job in found[:size]], next_page_token=token)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.Job:
        (uid,) = parse_name("name", request.name, "jobs")
        return job_message(await asyncio.to_thread(self._jobs.request_cancel, uid))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[operations_pb2.Event]:
        (uid,) = parse_name("name", request.name, "jobs")
        if request.after_sequence < 0:
            raise invalid_field("after_sequence", f"{request.after_sequence} is no number of an event: from 1, or 0 for all")
        seen = request.after_sequence
        with self._jobs.changes.subscription() as changed:
            while True:
                changed.clear()
                # In this order: a job that has ended gets no more events.
                job = await asyncio.to_thread(self._jobs.get, uid)
                events = await asyncio.to_thread(self._jobs.events, uid, seen, _EVENTS_A_READ)
                for event in events:
                    yield event_message(event)
                    seen = event.sequence
                if not events:
                    if job.state.is_final:
                        return
                    await changed.wait()

    async def DownloadJobFile(self, request: pb.DownloadJobFileRequest, context: Context) -> AsyncIterator[FileChunk]:
        (uid,) = parse_name("name", request.name, "jobs")
        if request.file not in FILES:
            raise invalid_field("file", f"{request.file!r} is no file of a job: {', '.join(FILES)}")
        await asyncio.to_thread(self._jobs.get, uid)
        left = await asyncio.to_thread(self._folders.left, uid)
        if request.file not in left:
            message = f"{request.name} has not left {request.file}; it has left: {', '.join(left) or 'nothing yet'}"
            raise NotFound("FILE_NOT_FOUND", message, metadata={"job": request.name, "file": request.file})
        async for chunk in file_chunks(self._folders.path(uid), [request.file]):
            yield chunk
