from __future__ import annotations

import numpy as np
import pytest

from lookalike_protos.packing import MAX_BATCH_BYTES, PackingError, pack_vectors, rows_per_batch, unpack_vectors
from lookalike_protos.types.v1.space_pb2 import METRIC_COSINE, Space
from lookalike_protos.types.v1.vectors_pb2 import D_TYPE_FLOAT16, D_TYPE_FLOAT32, DType, VectorBatch

SPACE = Space(fingerprint="ls1:" + "0" * 64, model="m", version=1, profile="plain", dim=3, metric=METRIC_COSINE)


def test_vectors_come_back_as_they_were_sent() -> None:
    vectors = np.array([[1, -2, 3.5], [0, 1e-30, 7]], np.float32)
    batch = pack_vectors(vectors, SPACE)
    assert batch.data == vectors.astype("<f4").tobytes()
    np.testing.assert_array_equal(unpack_vectors(batch), vectors)


def test_half_precision_is_read() -> None:
    data = np.array([[1, 0.5, -2]], "<f2").tobytes()
    rows = unpack_vectors(VectorBatch(data=data, dim=3, dtype=D_TYPE_FLOAT16, space=SPACE))
    np.testing.assert_array_equal(rows, np.array([[1, 0.5, -2]], np.float32))


@pytest.mark.parametrize(
    ("field", "dtype", "dim", "data"),
    [
        ("dtype", DType.ValueType(9), 3, b""),
        ("dtype", DType.ValueType(0), 3, b""),
        ("dim", D_TYPE_FLOAT32, 0, b""),
        ("dim", D_TYPE_FLOAT32, 16_385, b""),
        ("space.dim", D_TYPE_FLOAT32, 4, b"\0" * 16),
        ("data", D_TYPE_FLOAT32, 3, b"\0" * 13),
        ("data", D_TYPE_FLOAT32, 3, b"\0" * (MAX_BATCH_BYTES + 12)),
    ],
)
def test_a_batch_that_is_not_what_it_says_is_refused(field: str, dtype: DType.ValueType, dim: int, data: bytes) -> None:
    with pytest.raises(PackingError) as caught:
        unpack_vectors(VectorBatch(data=data, dim=dim, dtype=dtype, space=SPACE))
    assert caught.value.field == field


def test_a_wrong_width_is_refused_when_packing() -> None:
    with pytest.raises(PackingError):
        pack_vectors(np.zeros((2, 4), np.float32), SPACE)


def test_a_full_batch_stays_within_its_limit() -> None:
    for dim in (1, 1280, 2048, 16_384):
        assert rows_per_batch(dim) * dim * 4 <= MAX_BATCH_BYTES
