"""Warnings about a folder's scores: they come where light or parts have changed, and not by chance."""
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdlib import threshold_from_both, threshold_from_good
from rdlib.deploy.drift import _too_many, drift_warnings
from rdlib.deploy.scoring import NOT_FINITE, doubts, in_words

ALARMS, SHIFT = "images alarm where", "images that do not alarm score"
DRAWS = {"normal": lambda random, n: random.normal(1, 0.1, n), "skewed": lambda random, n: random.lognormal(0, 0.5, n),
         "ties": lambda random, n: np.round(random.normal(2, 0.5, n), 1)}


def chosen(scores, rate=0.05, confidence=None):
    return threshold_from_good(scores, np.zeros((len(scores), 2, 2)), rate, confidence=confidence)


def good(n, seed=0, draw="normal"):
    return DRAWS[draw](np.random.default_rng(seed), n)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("n", [20, 59, 200])
@pytest.mark.parametrize("confidence", [None, 0.5])
def test_good_images_like_those_of_the_threshold_hardly_ever_warn(draw, n, confidence):
    random, warned = np.random.default_rng(1), 0
    for _ in range(100):
        threshold = chosen(DRAWS[draw](random, n), 0.05 if draw != "ties" and n > 20 else 0.2, confidence)
        warned += sum(bool([*drift_warnings(DRAWS[draw](random, m), threshold)]) for m in (20, 150, 1000))
    assert warned <= 3, "of 300 folders"


def test_the_warning_of_the_issue():
    threshold = chosen(good(100))
    scores = np.concatenate([good(3, 1).clip(max=1), np.full(37, 5.0)])
    assert [*drift_warnings(scores, threshold)] == [
        "37 of 40 images alarm where at most 5 % were promised: light or lens may have changed, or most of these are "
        "defective. Look at the overlays."]


def test_alarms_are_judged_by_the_beta_binomial_distribution():
    for good_images, alarms, n in ((20, 0, 40), (59, 0, 1000), (200, 10, 40)):
        threshold = replace(chosen(good(200)), rate=None, good=good_images, alarms=alarms)
        orders = [math.comb(count + alarms, count) * math.comb(n - count + good_images - alarms - 1, n - count)
                  for count in range(n + 1)]  # of later and good images by score, with so many later ones that alarm
        tail = [sum(orders[count:]) / sum(orders) for count in range(n + 1)]
        for count in range(n + 1):
            if abs(tail[count] / 1e-3 - 1) > 1e-6:
                assert _too_many(count, n, threshold) == (tail[count] < 1e-3)


def test_few_alarms_never_warn_and_a_promise_is_not_broken_by_less_than_it():
    threshold = chosen(good(200))
    assert not [*drift_warnings(good(30, 1) - 0.05, replace(threshold, quantiles=()))]
    generous = replace(threshold, rate=0.9, alarms=0)
    assert not _too_many(80, 100, generous) and _too_many(80, 100, replace(generous, rate=0.05))


def test_without_a_promised_rate_the_alarms_among_the_good_images_are_the_measure():
    scores = np.concatenate([good(100), np.full(20, 3.0)])
    threshold = threshold_from_both(scores > 2, scores, np.zeros((120, 2, 2)))
    assert not [*drift_warnings(good(100, 2), threshold)]
    warnings = [*drift_warnings(np.concatenate([good(60, 2), np.full(40, 3.0)]), threshold)]
    assert warnings == ["40 of 100 images alarm where 0 of the threshold's 100 good images do: light or lens may have "
                        "changed, or some of these are defective. Look at the overlays."]


@pytest.mark.parametrize(("by", "way", "cause"), [(-0.1, "lower", "these images were trained on"),
                                                  (0.1, "higher", "small defects are missed")])
def test_scores_below_the_threshold_that_moved_are_named_with_their_direction(by, way, cause):
    threshold = chosen(good(200))
    scores = good(400, 3) + by
    found = [text for text in drift_warnings(scores, threshold) if SHIFT in text]
    passed = int((scores < threshold.score).sum())
    assert len(found) == 1 and found[0].startswith(f"The {passed} {SHIFT} {way} than the good images")
    assert cause in found[0] and "Choose the threshold on images like these." in found[0]


def test_a_changed_spread_is_seen_too():
    threshold = chosen(good(200))
    assert any(SHIFT in text for text in drift_warnings(1 + (good(200, 4) - 1) / 4, threshold))


def test_too_few_images_or_no_quantiles_say_nothing_about_the_distribution():
    threshold = chosen(good(100))
    low = np.full(20, 0.1)
    assert [*drift_warnings(low, threshold)] and not [*drift_warnings(low[1:], threshold)]
    assert not [*drift_warnings(low, replace(threshold, quantiles=()))]
    assert not [*drift_warnings(np.array([]), threshold)]


def test_a_threshold_by_hand_on_no_good_image_says_nothing():
    threshold = replace(chosen(good(100)), rate=None, good=1, alarms=1)
    assert not [*drift_warnings(np.full(50, 9.0), threshold)]


def test_equal_scores_are_no_drift():
    threshold = chosen(good(100, draw="ties"), 0.1)
    assert not [*drift_warnings(good(400, 5, "ties"), threshold)]
    mostly = chosen(np.concatenate([np.ones(70), np.linspace(1.1, 1.5, 30)]))
    assert not [*drift_warnings(np.concatenate([np.ones(350), np.linspace(1.1, 1.5, 150)]), mostly)]
    assert [*drift_warnings(np.full(500, 0.9), mostly)]


def table(scores, threshold, errors=()):
    frame = pd.DataFrame({"score": [*scores, *[np.nan] * len(errors)], "error": [*[""] * len(scores), *errors]})
    frame["file"] = [f"{i}.png" for i in range(len(frame))]
    frame["anomalous"] = (frame["score"] >= threshold.score).astype("Int64") if threshold else pd.NA
    return frame


def test_the_messages_summarize_and_warn(tmp_path):
    threshold = chosen(good(100))
    scored = table(np.full(40, 5.0), threshold, [NOT_FINITE, "torn"])
    message, warnings = in_words(scored, threshold, Path("out")), doubts(scored, threshold)
    assert message.startswith("42 files, 2 with an error; 40 anomalous (score at least ")
    first, *rest = message.splitlines()
    assert first.endswith(f": {Path('out') / 'scores.csv'}")
    assert rest == [f"40.png: {NOT_FINITE}", "41.png: torn"], "the first names and reasons"
    assert [text[:12] for text in warnings] == ["1 of 42 file", "40 of 40 ima"]
    message = in_words(table([5.0], threshold, ["torn"] * 9), threshold, Path("out"))
    assert message.splitlines()[1:] == ["1.png: torn", "2.png: torn", "3.png: torn",
                                        "6 more files have an error, see the table."]
    assert doubts(table(good(40, 6), threshold), threshold) == []
    scored = table(np.full(40, 5.0), None)
    assert "no threshold was saved" in in_words(scored, None, Path("out")) and doubts(scored, None) == []
