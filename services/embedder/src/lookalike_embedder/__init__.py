"""The embedder: a picture goes through `callers`, `decode`, `batcher` and `worker`; `models` says with what."""
