"""Every registered task: importing this module fills the list that a worker accepts."""

import xai_lib.compendium.grid
import xai_lib.compendium.retraining_tasks
import xai_lib.studies.baseline_choice
import xai_lib.studies.baseline_counts
import xai_lib.studies.baseline_quality  # noqa: F401
