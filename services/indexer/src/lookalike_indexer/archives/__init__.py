"""Collections as archives: an uncompressed tar of JSON lines and safetensors, and a manifest of checksums.

Whoever has numpy can read one; reading one runs no code and unpacks no file.
"""
