"""The measure of two-pass mining's memory, on a network that takes seconds."""

from benchmarks.trainer.two_pass import Setting, memory_ratio


def test_two_pass_mining_needs_about_the_memory_of_the_small_batch() -> None:
    """With gradients through all of the batch the ratio would be near 4."""
    assert memory_ratio(Setting(architecture="test_efficientnet", size=48, classes=24, pictures=12, steps=1)) <= 1.5
