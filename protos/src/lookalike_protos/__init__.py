"""The contracts of lookalike as Python stubs: `lookalike_protos.<types|trainer|embedder|indexer>.v1.<file>_pb2` and `_pb2_grpc`."""
