"""Protobuf in and out, one module a service of the contract; what is done stands in the modules around."""
