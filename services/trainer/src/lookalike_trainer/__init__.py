"""The trainer: datasets, jobs in processes of their own, and the registry of models they make.

The service (`service`, `servicers`, and the domain modules beside them) never imports torch; `worker` and `training` do.
"""
