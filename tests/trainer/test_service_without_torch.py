from __future__ import annotations

import subprocess
import sys


def test_the_service_needs_no_torch() -> None:
    program = (
        "import lookalike_trainer.service, lookalike_trainer.__main__, sys; print({'torch', 'timm', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
