"""Protobuf in and out, nothing else."""
