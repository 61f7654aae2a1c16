"""Ranking of a whole reference collection for a whole query collection, exactly, in a process of its own."""
