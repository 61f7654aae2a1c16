"""Pictures to vectors: unit rows, whatever else is in the batch."""

import dataclasses

import numpy as np
import pytest

from lookalike_images import DECODER_REVISION, PictureError, decode, preprocess
from lookalike_model.bundle import Bundle
from lookalike_model.embedding_model import EmbeddingModel, ModelLoadError
from lookalike_model.golden import golden_pictures

PICTURES = [picture.data for picture in golden_pictures()]


def test_rows_are_unit_vectors_of_the_profiles_width(bundle: Bundle) -> None:
    for profile in ("plain", "head"):
        model = EmbeddingModel.load(bundle, profile)
        vectors = model.embed_pictures(PICTURES)
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(PICTURES), bundle.profiles[profile].dim)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_vector_does_not_depend_on_the_batch(bundle: Bundle) -> None:
    model = EmbeddingModel.load(bundle)
    together = model.embed_pictures(PICTURES)
    alone = model.embed_pictures(PICTURES, batch_size=1)
    assert (1 - (together.astype(np.float64) * alone).sum(1) < 1e-5).all()


def test_pixels_and_pictures_go_the_same_way(bundle: Bundle) -> None:
    model = EmbeddingModel.load(bundle)
    pixels = np.stack([preprocess(decode(data), model.preprocessing) for data in PICTURES])
    np.testing.assert_array_equal(model.embed(pixels), model.embed_pictures(PICTURES))


def test_nothing_gives_no_rows(bundle: Bundle) -> None:
    model = EmbeddingModel.load(bundle)
    assert model.embed_pictures([]).shape == (0, model.dim)
    assert model.embed(np.zeros((0, 48, 48, 3), dtype=np.uint8)).shape == (0, model.dim)


def test_the_space_is_the_bundles(bundle: Bundle) -> None:
    model = EmbeddingModel.load(bundle)
    space = model.space("shoes", "3")
    assert space.fingerprint == bundle.profiles["plain"].fingerprint == model.computed_fingerprint()
    assert (space.model, space.version, space.profile, space.dim, space.metric) == (
        "shoes",
        "3",
        "plain",
        model.dim,
        "cosine",
    )


def test_an_unknown_profile_or_device_is_a_clear_error(bundle: Bundle) -> None:
    with pytest.raises(ModelLoadError, match="`best`; it has: plain, head"):
        EmbeddingModel.load(bundle, "best")
    with pytest.raises(ModelLoadError, match="device"):
        EmbeddingModel.load(bundle, device="warp")


def test_another_decoder_is_refused(bundle: Bundle) -> None:
    older = bundle.description.model_copy(update={"decoder_revision": DECODER_REVISION + 1})
    with pytest.raises(ModelLoadError, match="decoder revision"):
        EmbeddingModel.load(dataclasses.replace(bundle, description=older))


def test_a_bad_picture_is_told(bundle: Bundle) -> None:
    with pytest.raises(PictureError):
        EmbeddingModel.load(bundle).embed_pictures([b"no picture"])
