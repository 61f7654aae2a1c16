"""Short functions over the three services: what the command does, for programs.

Each takes an AsyncClient; with the synchronous client: `client.run(workflows.search(client.asynchronous, …))`.
"""

from lookalike.workflows._collection import Created, create_collection
from lookalike.workflows._dba import DbaChoice, choose_dba, choose_query_dba
from lookalike.workflows._ingest import Ingested, ingest
from lookalike.workflows._model import ChosenModel, choose_model, wait_until_served, zero_shot_model
from lookalike.workflows._observer import Observer
from lookalike.workflows._report import per_query_document, report_document, write_report
from lookalike.workflows.check import CHECK_FILES, read_excluded, save_report, start_check
from lookalike.workflows.ensemble import start_ensemble
from lookalike.workflows.evaluate import Evaluation, evaluate
from lookalike.workflows.index import Indexed, index
from lookalike.workflows.profile import start_profile
from lookalike.workflows.push import Pushed, push
from lookalike.workflows.search import Found, search
from lookalike.workflows.submit import Submitted, submit
from lookalike.workflows.train import INIT_FORMS, start_folder_import, start_import, start_training, upload_weights

__all__ = [
    "CHECK_FILES",
    "INIT_FORMS",
    "ChosenModel",
    "Created",
    "DbaChoice",
    "Evaluation",
    "Found",
    "Indexed",
    "Ingested",
    "Observer",
    "Pushed",
    "Submitted",
    "choose_dba",
    "choose_model",
    "choose_query_dba",
    "create_collection",
    "evaluate",
    "index",
    "ingest",
    "per_query_document",
    "push",
    "read_excluded",
    "report_document",
    "save_report",
    "search",
    "start_check",
    "start_ensemble",
    "start_folder_import",
    "start_import",
    "start_profile",
    "start_training",
    "submit",
    "upload_weights",
    "wait_until_served",
    "write_report",
    "zero_shot_model",
]
