"""Builds: how they are made, in a process of their own, and how they come to answer searches."""
