"""lime and Papermill: three scripts."""

import numpy as np

from xai_lib.compendium.defects import Shown, defect


@defect("D15", "lime", here="A new explainer for each image, seeded by the image.")
def drawn_on() -> Shown:
    """An explainer with a fixed random_state still draws on: the same row, explained twice, gets two explanations."""
    from lime.lime_tabular import LimeTabularExplainer

    rows = np.random.default_rng(0).normal(size=(50, 2))
    explainer = LimeTabularExplainer(rows, random_state=0, discretize_continuous=False)
    bright = lambda x: np.stack([1 - (x[:, 0] > 0), x[:, 0] > 0], axis=1).astype(float)  # noqa: E731
    first, second = (dict(explainer.explain_instance(rows[0], bright, num_samples=100).as_map()[1]) for _ in range(2))
    return Shown(right="the same weights twice", found="the same weights twice" if first == second else "two answers")


@defect("D16", "papermill", here="Parameters are checked against the study file before a kernel starts.")
def misspelt() -> Shown:
    """An unknown parameter only gives a warning, and the notebook runs with its default."""
    import nbformat
    from papermill.parameterize import parameterize_notebook

    cell = nbformat.v4.new_code_cell("n_images = 4", metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel, "papermill": {}})
    try:
        made = parameterize_notebook(notebook, {"n_image": 500})
    except Exception:
        return Shown(right="an error", found="an error")
    return Shown(right="an error", found=f"a notebook with {len(made.cells)} cells")


@defect("D21", "lime", here="The predicted class is always passed.")
def class_one() -> Shown:
    """explain_instance explains class 1 unless it is told otherwise, whatever was predicted: what document 004
    published.
    """
    from lime.lime_tabular import LimeTabularExplainer

    rows = np.random.default_rng(0).normal(size=(50, 2))
    explainer = LimeTabularExplainer(rows, random_state=0, discretize_continuous=False)
    always_zero = lambda x: np.tile([0.9, 0.1], (len(x), 1))  # noqa: E731
    made = explainer.explain_instance(rows[0], always_zero, num_samples=100)
    return Shown(right=[0], found=[int(label) for label in made.available_labels()])
