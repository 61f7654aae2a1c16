"""The page that a job leaves to be looked at."""
