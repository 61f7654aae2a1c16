"""Model bundles, networks, the identity of an embedding space, and the registry.

Import the modules by name: `lookalike_model.registry` and `lookalike_model.names` stay free of torch, so this file
imports nothing.
"""
