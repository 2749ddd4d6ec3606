"""Every registered task: importing this module fills the list that a worker accepts."""

import importlib
import pkgutil

import xai_lib.compendium.grid
import xai_lib.compendium.retraining_tasks
import xai_lib.studies
from xai_lib.compendium.made_with import DRAWINGS

for found in pkgutil.iter_modules(xai_lib.studies.__path__, "xai_lib.studies."):
    if not f"{found.name}.py".endswith(DRAWINGS):
        importlib.import_module(found.name)
