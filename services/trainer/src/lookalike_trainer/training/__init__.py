"""What a job does, stage by stage: dataset → split → start → loop → evaluation → bundle.

The service imports `recipe`, `recipe_files` and `job`, which need no torch; the rest runs in the worker's process.
"""
