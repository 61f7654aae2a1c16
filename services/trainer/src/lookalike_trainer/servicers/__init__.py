"""Protobuf in and out, one module a service of the protos; nothing is decided here."""
