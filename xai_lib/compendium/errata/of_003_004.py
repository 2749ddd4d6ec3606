"""Documents 003 (localisation) and 004 (case studies): four scripts."""

import numpy as np

from xai_lib import features
from xai_lib.compendium.errata import Shown, erratum


@erratum("E3.2", "003", place="section 2.5", here="A share of the maximum; the quantile is an option.")
def quantile() -> Shown:
    """The threshold of class activation maps is called a 20 % quantile. It is 20 % of the maximum; the quantile of a map with
    large zeros is 0, and takes the whole picture.
    """
    one_map = np.zeros((8, 8))
    one_map[2:5, 3:7], one_map[3, 4], one_map[0, 0], one_map[7, 7] = 1, 2, 0.5, 0.3
    return Shown(right=0.2 * float(one_map.max()), found=float(np.quantile(one_map, 0.2)))


@erratum(
    "E3.7",
    "003",
    place="the finished document's metric",
    here="The whole image, a centred box and random pixels stand in every table.",
)
def area() -> Shown:
    """The overlap of marked pixels with the object's box is read as localisation. A map that marks a quarter of the object and
    nothing else lies below one that marks everything.
    """
    truth = np.zeros((8, 8), bool)
    truth[2:6, 1:7] = True
    inside = np.zeros_like(truth)
    inside[3:5, 2:5] = True
    iou = [float((one & truth).sum() / (one | truth).sum()) for one in (inside, np.ones_like(truth))]
    return Shown(right="the quarter inside above everything", found=f"{iou[0]:.3g} inside, {iou[1]:.3g} everything")


@erratum("E4.1", "004", place="section IV-A", here="The predicted class, over seeds; class 1 beside it.")
def class_one() -> Shown:
    """The listing of an iris that is predicted to be setosa explains class 1, versicolor. What speaks for setosa most:"""
    from lime.lime_tabular import LimeTabularExplainer
    from sklearn.datasets import load_iris
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    iris = load_iris()
    rows = StandardScaler().fit_transform(iris.data)
    net = MLPClassifier((64, 32), max_iter=500, random_state=42).fit(rows, iris.target)
    explainer = LimeTabularExplainer(rows, feature_names=iris.feature_names, random_state=0)
    made = explainer.explain_instance(rows[0], net.predict_proba, labels=(0, 1))
    leads = {label: iris.feature_names[max(made.as_map()[label], key=lambda pair: abs(pair[1]))[0]] for label in (0, 1)}
    return Shown(right=leads[0], found=leads[1])


@erratum(
    "E4.2", "004", place="section IV-D", here="The smallest angle itself, in both directions; the document's draw beside it."
)
def unlucky_draw() -> Shown:
    """The reported angle is the bound of the first unlucky random rotation, not the least angle that changes the answer. For
    a least angle of 20 degrees, the mean of a thousand such reports:
    """
    generator, least = np.random.default_rng(0), 20.0
    bounds = np.arange(0.0, 90.0, 0.01)
    reports = [bounds[np.argmax(np.abs(generator.uniform(-bounds, bounds)) > least)] for _ in range(1000)]
    return Shown(right=least, found=round(float(np.mean(reports)), 2))


@erratum("E4.6", "004", place="Figure 3", here="Strokes in their own direction and place; the document's drawing beside them.")
def strokes() -> Shown:
    """Nine directions of a half turn are drawn over a whole one, and the rows of cells upside down. Direction of the stroke
    of each of the nine features of the first cell, in degrees:
    """
    places = features.hog_geometry()
    drawn = features.as_published(places)
    return Shown(right=places.stroke[:9].tolist(), found=drawn.stroke[:9].tolist())
