"""What every server of lookalike shares. Domain code imports `errors` only; servicers and `__main__` the rest."""
