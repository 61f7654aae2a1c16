"""`python -m lookalike_trainer`: run the server."""

import sys

from lookalike_runtime.server import main
from lookalike_trainer.service import TrainerService
from lookalike_trainer.settings import TrainerSettings

if __name__ == "__main__":
    sys.exit(main("trainer", TrainerSettings, TrainerService))
