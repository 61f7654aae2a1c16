"""The same network behind LitServe: `python -m benchmarks.embedder.litserve_app SETTING`, a JSON object."""

import base64
import json
import sys
from pathlib import Path

import litserve
import numpy as np
import torch
from fastapi import Request
from numpy.typing import NDArray

from benchmarks.embedder.bare import Setting
from lookalike_embedder.allocator import keep_freed_memory
from lookalike_images import decode, preprocess
from lookalike_model.bundle import read_bundle
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.numerics import Numerics

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]


class EmbedApi(litserve.LitAPI):  # type: ignore[misc]
    """A form's file in, a vector as base64 in JSON out."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(max_batch_size=setting["batch"], batch_timeout=setting["wait_seconds"])
        self._setting = setting

    def setup(self, device: str) -> None:
        """Runs in each worker."""
        if self._setting["allocator"] == "kept":
            keep_freed_memory()
        torch.set_num_threads(self._setting["torch_threads"])
        precision = self._setting["precision"]
        self._model = EmbeddingModel.load(read_bundle(Path(self._setting["bundle"])), device=device, precision=precision)
        if self._setting["compiled"]:
            self._model.use(Numerics(precision, compiled=True))

    def decode_request(self, request: Request) -> Pixels:
        """By its annotation LitServe tells that the body is a form; what comes here is its fields."""
        return preprocess(decode(request["picture"].file.read()), self._model.preprocessing)

    def predict(self, pixels: Pixels) -> Vectors:
        """A batch where LitServe batches, else one picture."""
        return self._model.embed(pixels) if self._setting["batch"] > 1 else self._model.embed(pixels[None])[0]

    def encode_response(self, vector: Vectors) -> dict[str, str]:
        return {"vector": base64.b64encode(vector.tobytes()).decode()}


def main() -> int:
    """Serve until killed."""
    setting = json.loads(sys.argv[1])
    server = litserve.LitServer(EmbedApi(setting), accelerator="cpu", workers_per_device=setting["workers"], timeout=120)
    server.run(host="127.0.0.1", port=setting["port"], log_level="warning", generate_client_file=False, pretty_logs=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
