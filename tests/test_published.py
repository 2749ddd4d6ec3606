"""Published overlaps of document 003: reading, and what is computed from them, on small tables made up here."""

import os

import numpy as np
import pandas as pd
import pytest

from xai_lib import published
from xai_lib.data import places
from xai_lib.errors import ConfigError, DataError, InputError

HEADER = "img_no,deeplift,gradcam,lime,shap"
LINES = ("2,0.2,0.5,,0.1", "1,0.4,0.25,0.0,0.3", "3,0.0,0.75,1.0,0.2")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A root with all six made-up tables; those of Inception have no column for SHAP."""
    (tmp_path / "published").mkdir()
    for model in published.MODELS:
        for word in published.METRICS.values():
            lines = [HEADER, *LINES]
            if model == "inception":
                lines = [line.rpartition(",")[0] for line in lines]
            (tmp_path / "published" / f"003_{model}_{word}.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    monkeypatch.setattr(places, "REPOSITORY", tmp_path / "nowhere")
    return tmp_path / "published"


def table(values, model="vgg16", metric="iou"):
    """{method: values of images 1, 2, ...} -> tidy lines."""
    return pd.DataFrame(
        [
            {"image": image, "model": model, "method": method, "metric": metric, "value": value}
            for method, column in values.items()
            for image, value in enumerate(column, start=1)
        ]
    )


def test_all_tables_are_read_in_order(folder):
    found = published.overlaps()
    assert tuple(found.columns) == published.COLUMNS
    assert len(found) == (2 * 4 + 2 * 4 + 2 * 3) * 3
    assert found.iloc[:6].to_dict("list") == {
        "image": [1, 2, 3, 1, 2, 3],
        "model": ["vgg16"] * 6,
        "method": ["deeplift"] * 3 + ["gradcam"] * 3,
        "metric": ["iou"] * 6,
        "value": [0.4, 0.2, 0.0, 0.25, 0.5, 0.75],
    }
    lime = found[(found.model == "resnet") & (found.method == "lime") & (found.metric == "iou_star")]
    assert lime["value"].isna().tolist() == [False, True, False]
    assert set(found[found.model == "inception"].method) == {"deeplift", "gradcam", "lime"}
    assert found["image"].dtype.kind == "i"
    assert found["value"].dtype == float


def test_both_metrics_come_from_their_own_file(folder):
    (folder / "003_resnet_intensity.csv").write_text(f"{HEADER}\n7,0.1,0.2,0.3,0.4\n")
    found = published.overlaps()
    other = found[(found.model == "resnet") & (found.metric == "iou_star")]
    assert other["image"].tolist() == [7] * 4
    assert other["value"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert len(found[(found.model == "resnet") & (found.metric == "iou")]) == 12


def test_a_missing_table_is_an_error_that_helps(folder):
    (folder / "003_vgg16_intensity.csv").unlink()
    with pytest.raises(DataError) as caught:
        published.overlaps()
    for words in ("not found", "003_vgg16_intensity.csv", str(folder.parent), "(no such folder)", "P0ntiff/thesis", "XAI_DATA"):
        assert words in str(caught.value)
    assert caught.value.exit_code == 4


DAMAGED = {
    "another header": ("img,deeplift\n1,0.1\n", r"columns \['img', 'deeplift'\], expected img_no"),
    "an unknown method": ("img_no,deeplift,shapley\n1,0.1,0.2\n", "columns .*'shapley'.*expected img_no"),
    "no method": ("img_no\n1\n", r"columns \['img_no'\]"),
    "a method twice": ("img_no,lime,lime\n1,0.1,0.2\n", "once each"),
    "no line": (f"{HEADER}\n", "img_no holds no line"),
    "nothing": ("", r"columns \[\]"),
    "a cut line": (f"{HEADER}\n1,0.1,0.2,0.3,0.4\n2,0.1,0.2\n", "line 3: 3 fields, expected 5"),
    "a long line": (f"{HEADER}\n1,0.1,0.2,0.3,0.4,0.5\n", "line 2: 6 fields, expected 5"),
    "an image twice": (f"{HEADER}\n4,0.1,,,\n4,0.2,,,\n", "img_no holds a number twice"),
    "image 0": (f"{HEADER}\n0,0.1,,,\n", "img_no holds '0'"),
    "half an image": (f"{HEADER}\n1.5,0.1,,,\n", r"img_no holds '1\.5'"),
    "no image": (f"{HEADER}\n,0.1,,,\n", "img_no holds ''"),
    "a word": (f"{HEADER}\n8,0.1,high,,\n", "gradcam of image 8 is 'high', expected a number in"),
    "nan": (f"{HEADER}\n8,nan,,,\n", "deeplift of image 8 is 'nan'"),
    "above 1": (f"{HEADER}\n8,0.1,,1.01,\n", r"lime of image 8 is '1\.01'"),
    "below 0": (f"{HEADER}\n8,0.1,,,-0.1\n", r"shap of image 8 is '-0\.1'"),
    "no text": (b"\xff\xfe\x00", "cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_table_is_refused_by_name(folder, kind):
    content, words = DAMAGED[kind]
    path = folder / "003_resnet_intersect.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=words) as caught:
        published.overlaps()
    assert str(path) in str(caught.value)


def test_the_summary_of_a_column(folder):
    found = published.summary(published.overlaps())
    assert found.columns.tolist() == ["model", "metric", "method", "n", "missing", "mean", "sd", "low", "high"]
    assert len(found) == 22
    lift, lime = found.iloc[0], found.iloc[2]
    assert (lift["method"], lift["n"], lift["missing"]) == ("deeplift", 3, 0)
    assert [lift["mean"], lift["sd"]] == pytest.approx([0.2, np.sqrt(0.08 / 3)])
    assert lift["low"] <= 0.2 <= lift["high"]
    assert (lime["n"], lime["missing"], lime["mean"], lime["sd"]) == (2, 1, 0.5, 0.5)


def test_a_method_without_values_has_no_mean():
    found = published.summary(table({"shap": [np.nan, np.nan], "lime": [0.5, np.nan]}))
    assert found["n"].tolist() == [0, 1]
    assert found["mean"].isna().tolist() == [True, False]
    assert found[["low", "high"]].isna().all(axis=None)


def test_correlations_are_pearson_s_with_their_slope_interval():
    generator = np.random.default_rng(0)
    area = generator.uniform(0.1, 0.9, 60)
    values = {"deeplift": 0.5 * area, "gradcam": 0.6 - 0.2 * area, "lime": generator.uniform(0, 1, 60), "shap": [0.3] * 60}
    values["lime"][3] = np.nan
    given = pd.Series(area, index=range(1, 61))
    given.loc[1000] = 0.5  # an image that is not in the table
    found = published.correlation_with(table(values), given.sample(frac=1, random_state=0), model="vgg16").set_index("method")
    assert found["n"].tolist() == [60, 60, 59, 60]
    assert found.loc["deeplift", ["correlation", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
    assert found.loc["gradcam", "correlation"] == pytest.approx(-1)
    rest = np.delete(np.arange(60), 3)
    assert found.loc["lime", "correlation"] == pytest.approx(np.corrcoef(values["lime"][rest], area[rest])[0, 1])
    assert found.loc["lime", "low"] < found.loc["lime", "correlation"] < found.loc["lime", "high"]
    assert np.isnan(found.loc["shap", "correlation"])


def test_the_correlation_of_two_methods():
    generator = np.random.default_rng(1)
    one, other = generator.uniform(0, 1, (2, 40))
    found = published.image_correlation(table({"deeplift": one, "shap": one + other}), "deeplift", "shap", model="vgg16")
    assert found.value == pytest.approx(np.corrcoef(one, one + other)[0, 1])
    assert (found.n, found.dropped) == (40, 0)
    assert found.low < found.value < found.high


def test_the_difference_of_confident_images_and_its_error():
    """High 0.5, 0.7 and low 0.1, 0.2, 0.3: difference 0.4, squared error 0.02 / 2 + 0.01 / 3."""
    made = table({"lime": [0.5, 0.1, 0.2, 0.7, 0.3, np.nan]})
    sure = pd.Series([True, False, False, True, False, True], index=range(1, 7)).iloc[::-1]
    (line,) = published.confidence_difference(made, sure, model="vgg16").to_dict("records")
    assert (line["n_high"], line["n_low"]) == (2, 3)
    error = np.sqrt(0.02 / 2 + 0.01 / 3)
    expected = {"high": 0.6, "low": 0.2, "difference": 0.4, "standard_error": error, "ratio": 0.4 / error}
    assert {key: line[key] for key in expected} == pytest.approx(expected)
    assert line["from"] < 0.4 < line["to"]


def test_the_order_of_methods_and_their_leads():
    values = {"deeplift": [0.2, 0.3, 0.4], "gradcam": [0.1, 0.2, np.nan], "lime": [0.5, 0.7, 0.0], "shap": [np.nan] * 3}
    found = published.ordering(table(values, metric="iou_star"), model="vgg16", metric="iou_star")
    assert found["method"].tolist() == ["lime", "deeplift", "gradcam"]
    assert found["n"].tolist() == [2, 2, 2]
    assert found["mean"].tolist() == pytest.approx([0.6, 0.25, 0.15])
    assert found["lead"].tolist()[:2] == pytest.approx([0.35, 0.1])
    assert found[["low", "high"]].iloc[1].tolist() == pytest.approx([0.1, 0.1])
    assert found.iloc[2][["lead", "low", "high"]].isna().all()


def test_parts_are_told_apart_by_model_and_metric():
    both = pd.concat([table({"lime": [0.1, 0.2]}), table({"lime": [0.3, 0.5]}, model="resnet", metric="iou_star")])
    assert published.by_image(both, model="resnet", metric="iou_star")["lime"].tolist() == [0.3, 0.5]
    assert published.ordering(both, model="vgg16", metric="iou")["mean"].tolist() == pytest.approx([0.15])


def test_bad_requests_are_refused():
    made, sure = table({"lime": [0.1, 0.2, 0.4, 0.5]}), pd.Series([True, True, False, False], index=range(1, 5))
    with pytest.raises(ConfigError, match="unknown published model 'vgg': did you mean 'vgg16'"):
        published.ordering(made, model="vgg", metric="iou")
    with pytest.raises(ConfigError, match="unknown published metric 'iou_star'"):
        published.ordering(made, model="vgg16", metric="iou_star")
    with pytest.raises(ConfigError, match="unknown published method 'shap'"):
        published.image_correlation(made, "lime", "shap", model="vgg16")
    with pytest.raises(InputError, match="columns value are missing"):
        published.summary(made.drop(columns="value"))
    with pytest.raises(InputError, match="image 1 has two values of vgg16, lime, iou"):
        published.summary(pd.concat([made, made.iloc[:1]]))
    with pytest.raises(InputError, match="image 2 is given twice"):
        published.correlation_with(made, pd.Series([0.1, 0.2, 0.3], index=[1, 2, 2]), model="vgg16")
    for given in (pd.Series([0.1, 0.2], index=[1, 9]), pd.Series([0.1, np.nan], index=[1, 2])):
        with pytest.raises(InputError, match="1 of 2 images are in the table"):
            published.correlation_with(made, given, model="vgg16")
    with pytest.raises(InputError, match="image 4 is not in it"):
        published.confidence_difference(made, sure.iloc[:3], model="vgg16")
    with pytest.raises(InputError, match="expected one bool for each image of the table, found int64"):
        published.confidence_difference(made, sure.astype("int64"), model="vgg16")
    with pytest.raises(InputError, match="lime: 1 confident and 3 other images"):
        published.confidence_difference(made, pd.Series([True, False, False, False], index=range(1, 5)), model="vgg16")


@pytest.mark.skipif(not os.environ.get("XAI_DATA"), reason="XAI_DATA is not set: the published tables are not here")
def test_the_real_tables_hold_what_the_claims_ledger_says():
    found = published.overlaps()
    means = published.summary(found)
    order = ["deeplift", "shap", "gradcam", "lime"]
    parts = {key: part.set_index("method") for key, part in means.groupby(["model", "metric"])}
    whole = parts["vgg16", "iou"].loc[order]
    assert whole["n"].tolist() == [1000] * 4
    assert whole["mean"].round(3).tolist() == [0.289, 0.288, 0.214, 0.092]
    assert parts["vgg16", "iou_star"].loc[order, "n"].tolist() == [1000, 1000, 998, 1000]
    assert parts["vgg16", "iou_star"].loc[order, "mean"].round(4).tolist() == [0.0226, 0.0181, 0.0151, 0.0591]
    assert [round(parts[model, "iou"].loc["deeplift", "mean"], 3) for model in ("inception", "resnet")] == [0.014, 0.022]
    assert published.ordering(found, model="vgg16", metric="iou")["method"].tolist() == order
    assert published.ordering(found, model="vgg16", metric="iou_star")["method"].tolist()[0] == "lime"
    d12 = published.image_correlation(found, "deeplift", "shap", model="vgg16")
    assert round(d12.value, 2) == 0.61
    assert d12.low > 0.5
    # D8: one share of confident images explains the four published pairs of means and of deviations
    high, low = np.array([0.306, 0.305, 0.237, 0.108]), np.array([0.279, 0.277, 0.200, 0.083])
    sd_high, sd_low = np.array([0.112, 0.089, 0.109, 0.145]), np.array([0.118, 0.085, 0.105, 0.122])
    shares = (whole["mean"].to_numpy() - low) / (high - low)
    assert np.ptp(shares) < 0.03
    share = shares.mean()
    spread = np.sqrt(share * sd_high**2 + (1 - share) * sd_low**2 + share * (1 - share) * (high - low) ** 2)
    np.testing.assert_allclose(spread, whole["sd"], atol=0.001)
    errors = np.sqrt(sd_high**2 / (1000 * share) + sd_low**2 / (1000 * (1 - share)))
    assert (((high - low) / errors > 2.5) & ((high - low) / errors < 5.5)).all()
