"""The indexer: collections of vectors that are stored, built, searched and ranked."""
