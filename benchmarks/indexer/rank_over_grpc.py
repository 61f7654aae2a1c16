"""A ranking as its caller sees it: a server of its own, both collections written into it, DBA on both sides, the answer streamed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from benchmarks.indexer.filling import filled
from benchmarks.indexer.gemm import Rows
from benchmarks.process import CHANNEL_OPTIONS, IndexerProcess, running_indexer
from lookalike_protos.indexer.v1 import search_pb2
from lookalike_protos.types.v1 import dba_pb2

_CONTEST_SECONDS = 3_600


def rank_over_grpc(queries: Rows, references: Rows, k: int, dba_k: int, workdir: Path) -> dict[str, Any]:
    """Rank with DBA on both sides, one thread.

    Returns:
        seconds: `total`, from the call to the last message; of it `snapshot` until the first, `augment_queries`, `augment_references` and
        `rank`, the answer streamed meanwhile. `stream`: the same messages from a server that has them ready. `contest_share`: `total` as
        a share of one hour. `answer_bytes` is what was streamed; `upsert_seconds` what it took to write both collections.
    """
    with running_indexer(workdir / "data") as server:
        began = time.perf_counter()
        filled(server, "queries", queries.map())
        filled(server, "references", references.map())
        written = time.perf_counter() - began
        seconds, answer = _rank(server, k, dba_k)
    return {
        "dba_k": dba_k,
        "upsert_seconds": written,
        "seconds": seconds,
        "stream_seconds": _stream_seconds(answer),
        "answer_bytes": sum(len(each) for each in answer),
        "contest_share": seconds["total"] / _CONTEST_SECONDS,
    }


def _rank(server: IndexerProcess, k: int, dba_k: int) -> tuple[dict[str, float], list[bytes]]:
    dba = dba_pb2.DbaSpec(k=dba_k)
    request = search_pb2.RankRequest(
        query_collection="collections/queries", reference_collection="collections/references", k=k, query_dba=dba, reference_dba=dba
    )
    began = time.perf_counter()
    reached: dict[str, float] = {}
    answer = []
    for part in server.searches.Rank(request):
        stage = part.progress.stage if part.HasField("progress") else str(part.WhichOneof("message"))
        reached[stage] = time.perf_counter() - began
        answer.append(part.SerializeToString())
    total = time.perf_counter() - began
    ends = [reached["start"], reached["augment queries"], reached["augment references"], total]
    names = ("snapshot", "augment_queries", "augment_references", "rank")
    return {"total": total} | {name: end - start for name, start, end in zip(names, [0, *ends], ends, strict=False)}, answer


def _stream_seconds(answer: list[bytes]) -> float:
    """Seconds to stream messages that lie ready."""

    def answers(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        return iter(answer)

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(answers)
    server = grpc.server(ThreadPoolExecutor(1), options=CHANNEL_OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("benchmark.Ready", {"Stream": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}", CHANNEL_OPTIONS) as channel:
        began = time.perf_counter()
        call: grpc.UnaryStreamMultiCallable[bytes, search_pb2.RankResponse]
        call = channel.unary_stream("/benchmark.Ready/Stream", response_deserializer=search_pb2.RankResponse.FromString)
        for _ in call(b""):
            pass
        seconds = time.perf_counter() - began
    server.stop(None).wait()
    return seconds
