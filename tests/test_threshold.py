"""Thresholds: promises are kept on simulated scores, bounds equal scipy's binomial, choices equal brute force."""
import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from scipy.stats import beta, binom, binomtest
from sealed import write_model
from sklearn.metrics import f1_score
from test_metrics import TENSORS
from torch.utils.data import TensorDataset

from rdlib import MemoryBank, ReverseDistillation, fit, load_dataset
from rdlib.threshold import (
    Threshold,
    agreed_size,
    distinct,
    images_needed,
    rate_bound,
    threshold_from_both,
    threshold_from_good,
)
from rdlib.utils.errors import WeightsError


def maps_of(scores):
    """(N, 4, 8) maps whose maximum is the score."""
    maps = np.zeros((len(scores), 4, 8), np.float32)
    maps[:, 1, 2] = scores
    return maps


def from_good(scores, *args, **kwargs):
    return threshold_from_good(scores, maps_of(scores), *args, **kwargs)


def from_both(labels, scores, **kwargs):
    return threshold_from_both(labels, scores, maps_of(scores), **kwargs)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (60, 0.05), (60, 0.1), (200, 0.01)])
def test_the_rate_holds_on_average_over_draws(n, rate):
    rng = np.random.default_rng(0)
    rates = 1 - np.array([from_good(rng.uniform(1, 2, n), rate).score - 1 for _ in range(3000)])  # exact: uniform
    assert rates.mean() <= rate and rates.mean() == pytest.approx(rate, abs=1 / (n + 1) + 0.001)


@pytest.mark.parametrize(("n", "rate"), [(60, 0.05), (150, 0.05), (40, 0.1)])
def test_with_confidence_the_rate_holds_in_that_share_of_draws(n, rate):
    rng = np.random.default_rng(1)
    rates = 2 - np.array([from_good(rng.uniform(1, 2, n), rate, confidence=0.95).score for _ in range(3000)])
    assert 0.94 < (rates <= rate).mean() < 0.995


def test_scores_of_another_distribution_change_nothing():
    scores = np.random.default_rng(2).uniform(0.1, 1, 80)
    plain, bent = from_good(scores, 0.1), from_good(np.exp(3 * scores), 0.1)
    assert plain.alarms == bent.alarms == 7 and bent.score == pytest.approx(np.exp(3 * plain.score), rel=1e-3)


@given(n=st.integers(1, 300), k=st.integers(0, 299), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_bound_is_clopper_and_pearsons(n, k, confidence):
    k %= n
    bound = rate_bound(k, n, confidence)
    assert binom.cdf(k, n, bound) == pytest.approx(1 - confidence, rel=1e-6)
    assert rate_bound(k, n) == (k + 1) / (n + 1)


@given(n=st.integers(1, 2000), k=st.integers(0, 1999), confidence=st.floats(0.01, 0.999))
def test_bounds_are_scipys(n, k, confidence):
    k %= n
    bound = rate_bound(k, n, confidence)
    assert bound == pytest.approx(beta.ppf(confidence, k + 1, n - k), rel=1e-12, abs=0)
    interval = binomtest(k, n, alternative="less").proportion_ci(confidence)
    assert bound == pytest.approx(interval.high, abs=1e-11)  # a root search


@pytest.mark.parametrize(("rate", "confidence", "n"), [(0.05, None, 19), (0.01, None, 99), (0.001, None, 999),
                                                       (0.05, 0.95, 59), (0.01, 0.95, 299), (0.3, None, 3)])
def test_so_many_images_are_needed_and_so_many_are_enough(rate, confidence, n):
    assert images_needed(rate, confidence) == n
    assert from_good(np.linspace(1, 2, n), rate, confidence=confidence).alarms == 0
    with pytest.raises(ValueError, match=rf"{n - 1} different good images cannot keep .* takes {n}, "):
        from_good(np.linspace(1, 2, n - 1), rate, confidence=confidence)


def test_too_few_images_are_told_what_they_can_do():
    with pytest.raises(ValueError, match=r"40 different good images cannot keep .* to 1 %.*takes 99.*rate=0\.025"):
        from_good(np.linspace(1, 2, 40), 0.01)
    assert from_good(np.linspace(1, 2, 40), 0.025).alarms == 0


def test_ties_do_not_alarm_and_rounding_does_not_either():
    scores = np.array([*np.linspace(1, 1.5, 30), *[2.0] * 10], np.float32)
    threshold = from_good(scores, 0.2)  # 5 of 31 might alarm, but the ten highest are equal
    assert threshold.alarms == 0 and threshold.score > 2 * (1 + 5e-5)
    assert from_good([-1.0, -2.0, -3.0], 0.5).score > -1.0 or from_good([-1.0, -2.0, -3.0], 0.5).alarms == 1


@given(st.lists(st.integers(0, 10**5), min_size=3, max_size=30, unique=True), st.integers(2, 5),
       st.floats(0.05, 0.9), st.sampled_from([None, 0.9]))
def test_copies_promise_nothing(numbers, copies, rate, confidence):
    """The same as the scores alone, or stricter: all copies of a score alarm together."""
    scores = np.array(numbers) / 10**5
    repeated = np.repeat(scores, copies)
    try:
        threshold = from_good(repeated, rate, confidence=confidence)
    except ValueError as error:
        assert images_needed(rate, confidence) > len(scores) and f"{len(scores)} different good images" in str(error)
        return
    once = from_good(scores, rate, confidence=confidence)
    assert threshold.good == len(scores) and threshold.score >= once.score and threshold.alarms <= once.alarms
    assert rate_bound(threshold.alarms, len(scores), confidence) <= rate * (1 + 1e-9)


@pytest.mark.parametrize("copies", [1, 2, 10])
def test_copies_of_twelve_images_do_not_make_a_hundred(copies):
    with pytest.raises(ValueError, match="12 .*good images cannot keep false alarms to 1 %.*takes 99"):
        from_good(np.repeat(np.linspace(1, 2, 12), copies), 0.01)


def test_copies_in_batches_of_other_sizes_are_equal_scores():
    """The last bits of a score depend on the batch."""
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = ReverseDistillation("resnet18", seed=1)
    for _ in range(2):
        scores = np.concatenate([model.predict(images, batch_size)[1] for batch_size in (6, 5, 2, 1)])
        assert len(np.unique(scores)) > len(images) == distinct(scores)
        fit(model, TensorDataset(images), 3, batch_size=2, progress=False)


def test_different_scores_are_hardly_ever_counted_as_one():
    sets = np.random.default_rng(0).normal(1, 0.1, (4000, 59)).astype(np.float32)
    assert sum(distinct(scores) < 59 for scores in sets) < len(sets) / 200
    assert distinct([0.0, 0.0, -1.0, -1.0 - 1e-6, 1e-30, 2e-30]) == 5 and distinct([3.0]) == 1


def test_the_promise_in_words():
    scores = np.linspace(1, 2, 60)
    assert from_good(scores, confidence=0.95).promise() == "at most 5 % of good images will alarm, with 95 % confidence"
    assert from_good(scores, 0.1).promise() == "at most 10 % of good images will alarm, on average"
    assert from_both(scores > 1.5, scores).promise().startswith("nothing is promised about good images")


@pytest.mark.parametrize(("rate", "confidence", "words"), [
    (0.05004, 0.95, "5.004 % .* 95 %"), (0.07, 0.9999, "at most 7 % .* 99.99 %"),
    (0.0996, 0.99951, "9.96 % .*99.951 %"),
    (0.29, 0.57, "at most 29 % .*with 57 %"), (np.float32(0.25), 0.999999, "at most 25 % .*99.9999 %")])
def test_a_promise_is_not_rounded_to_a_better_one(rate, confidence, words):
    threshold = replace(from_good(np.linspace(1, 2, 80), 0.1), rate=rate, confidence=confidence)
    assert re.fullmatch(f".*{words} confidence", threshold.promise())
    chosen = from_good(np.random.default_rng(0).uniform(size=20000), rate, confidence=confidence)
    assert chosen.promise() == threshold.promise()
    assert chosen.rule.split(" %")[0] == chosen.promise().split(" %")[0]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int64, int])
def test_a_threshold_takes_any_number_and_keeps_plain_ones(kind):
    threshold = Threshold(score=kind(2), pixel=kind(3), size=(4, 8), rule="", good=np.int64(9), alarms=np.int32(0),
                          rate=kind(1) / 2)
    assert (threshold.score, threshold.pixel, threshold.good) == (2.0, 3.0, 9)
    assert type(threshold.score) is type(threshold.pixel) is float
    assert Threshold(**json.loads(json.dumps(asdict(threshold)))) == threshold


def test_it_remembers_what_it_was_chosen_on():
    scores = np.random.default_rng(3).uniform(size=80)
    threshold, expected = from_good(scores, 0.1, confidence=0.9), np.quantile(scores, np.linspace(0, 1, 21))
    assert (threshold.rate, threshold.confidence) == (0.1, 0.9) and threshold.quantiles == tuple(expected)
    both = from_both(np.arange(80) >= 60, scores)
    assert both.rate is both.confidence is None
    assert both.quantiles == tuple(np.quantile(scores[:60], np.linspace(0, 1, 21)))


@pytest.mark.parametrize("scores", [np.r_[np.arange(-30, 0), highest] for highest in (
    np.zeros(10), np.full(10, 1e-45), np.full(10, -1e-42), np.full(10, 3.0), np.arange(10) * 1e-45)])
def test_scores_around_zero_do_not_all_alarm(scores):
    threshold = from_good(scores, 0.05)
    assert threshold.alarms == 0, "of 40 one may alarm, but the highest ones are equal, or too close"
    for seen in (scores, scores.astype(np.float32), torch.tensor(scores, dtype=torch.float32)):
        assert not (seen >= threshold.score).any()
    assert not (maps_of(scores) >= threshold.pixel).any()


@given(st.lists(st.floats(-2.0**99, 2.0**99, width=32), min_size=3, max_size=40), st.floats(0.03, 0.9))
def test_the_sample_itself_keeps_the_promise(scores, rate):
    """For numbers of any size, compared in float32, as a model gives them, and in float64."""
    try:
        threshold = from_good(scores, rate)
    except ValueError as error:
        assert "cannot keep" in str(error)
        return
    for seen in (np.array(scores), np.array(scores, np.float32)):
        alarms = int((seen >= threshold.score).sum())
        assert alarms == 0 or rate_bound(alarms, len(scores)) <= rate * (1 + 1e-9)


@pytest.mark.parametrize("labels", [[0] * 20 + [1] * 10 + [2] * 10, [np.nan] * 20 + [1] * 20, [-1] * 20 + [1] * 20,
                                    ["good"] * 20 + ["bad"] * 20, [0.5] * 20 + [1] * 20])
def test_labels_are_0_and_1(labels):
    with pytest.raises(ValueError, match=r"Labels are 0 \(normal\) and 1 \(anomalous\).*Found"):
        from_both(labels, np.linspace(1, 2, 40))


def test_neighbouring_float32_scores_are_parted():
    scores = np.array([1, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    threshold = from_both([0, 1], scores)
    assert (scores >= threshold.score).tolist() == [False, True] and (threshold.alarms, threshold.found) == (0, 1)


@pytest.mark.parametrize("made", TENSORS)
def test_tensors_of_any_device_and_dtype(made):
    labels, scores = np.arange(40) % 2, np.arange(40) / 8
    assert from_good(scores, 0.1) == threshold_from_good(made(scores), made(maps_of(scores)), 0.1)
    assert from_both(labels, scores) == threshold_from_both(made(labels), made(scores), made(maps_of(scores)))


def test_no_pixel_of_the_good_images_is_marked():
    scores = np.linspace(0.2, 0.9, 50)
    maps = maps_of(scores)
    maps[7, 3, 3] = 5
    threshold = threshold_from_good(scores, maps, 0.1)
    assert not (maps >= threshold.pixel).any() and threshold.pixel < 5.01 and threshold.size == (4, 8)
    both = threshold_from_both(np.arange(50) >= 40, scores, maps)
    assert not (maps[:40] >= both.pixel).any()
    half = np.full((50, 4, 8), 0.3, np.float16)  # a ten-thousandth more is the same number there
    assert threshold_from_good(scores, half, 0.1).pixel > half.max().astype(np.float64)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=30))
def test_best_f1_is_brute_forces(pairs):
    labels, scores = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs], float)
    if labels.all() or not labels.any():
        return
    threshold = from_both(labels, scores)
    best = max(f1_score(labels, scores >= t) for t in np.unique(scores))
    assert f1_score(labels, scores >= threshold.score) == pytest.approx(best)
    assert threshold.found == (scores[labels] >= threshold.score).sum() and threshold.defective == labels.sum()
    assert threshold.alarms == (scores[~labels] >= threshold.score).sum() and threshold.good == (~labels).sum()


def test_a_recall_is_reached_with_the_fewest_alarms():
    labels, scores = [0, 0, 0, 1, 1, 1, 1, 1], [0.1, 0.2, 0.6, 0.3, 0.5, 0.7, 0.8, 0.9]
    assert from_both(labels, scores, recall=0.6).score == pytest.approx(0.65)  # between 0.6, good, and 0.7
    at_80 = from_both(labels, scores, recall=0.8)
    assert (at_80.found, at_80.alarms, at_80.score) == (4, 1, pytest.approx(0.4))
    assert from_both(labels, scores, recall=1.0).found == 5
    assert from_both(labels, scores, recall=1e-10).found == 1  # not all
    assert "at least 80 %" in str(at_80) and "4 of 5 defective ones are found" in str(at_80)


@pytest.mark.parametrize("call", [
    lambda: from_good([0.1, np.nan]), lambda: from_good([]), lambda: from_good(np.linspace(0, 1, 50), 0),
    lambda: from_good(np.linspace(0, 1, 50), 1.5), lambda: from_good(np.linspace(0, 1, 50), confidence=1.0),
    lambda: threshold_from_good([1.0, 2.0], np.zeros((3, 4, 4))), lambda: from_both([0, 0], [1.0, 2.0]),
    lambda: from_both([1, 1], [1.0, 2.0]), lambda: from_both([0, 1, 1], [1.0, 2.0]),
    lambda: from_both([0, 1], [1.0, 2.0], recall=0), lambda: rate_bound(5, 5), lambda: images_needed(0),
    lambda: agreed_size(None, None)])
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(ValueError):
        call()


def test_a_threshold_belongs_to_its_size():
    threshold = from_good(np.linspace(1, 2, 40), 0.1)
    assert agreed_size(threshold.size, None) == agreed_size(threshold.size, (4, 8)) == (4, 8)
    assert agreed_size(None, 64) == (64, 64)
    with pytest.raises(ValueError, match="trained, or its threshold was chosen, at 4 x 8 .* mean nothing at 64 x 64"):
        agreed_size(threshold.size, 64)
    with pytest.raises(ValueError, match="size is unknown.*size=256"):
        agreed_size(None, None)


@pytest.fixture(scope="module")
def model():
    return ReverseDistillation("resnet18", weights=None, sigma=1)


def test_it_is_saved_with_the_model_and_comes_back(model, tmp_path):
    chosen = from_both(np.arange(30) % 2, np.linspace(0.1, 0.9, 30), recall=0.8)
    model.threshold = replace(chosen, size=(64, 32))  # a model's sides are multiples of 32
    model.save(tmp_path / "model.safetensors")
    loaded = ReverseDistillation.load(tmp_path / "model.safetensors")
    assert loaded.threshold == model.threshold and isinstance(loaded.threshold.size, tuple)


def test_a_model_without_a_threshold_is_saved_without_one(model, tmp_path):
    model.threshold = None
    model.save(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.metadata()) == {"rdlib"}
    assert ReverseDistillation.load(tmp_path / "model.safetensors").threshold is None


@pytest.mark.parametrize("content", [3, "high", [1], {}, {"score": "high"}, {
    "score": None, "pixel": 1.0, "size": [4, 8], "rule": "", "good": 1, "alarms": 0}])
def test_a_damaged_threshold_is_an_error_that_says_what_to_do(model, tmp_path, content):
    about = model.describe() | {"threshold": content}
    write_model(tmp_path / "m.safetensors", model.state_dict(), about)
    with pytest.raises(WeightsError, match="Update the kit, or save the model again"):
        ReverseDistillation.load(tmp_path / "m.safetensors")


def test_official_weights_take_the_threshold_away(tmp_path):
    donor = ReverseDistillation("resnet18", weights=None, seed=1)
    model = ReverseDistillation("resnet18", weights=None)
    model.threshold = from_good(np.linspace(1, 2, 40), 0.1)
    torch.save({"bn": donor.ocbe.state_dict(), "decoder": donor.student.state_dict()}, tmp_path / "official.pth")
    assert model.load_official(tmp_path / "official.pth").threshold is None


def test_training_takes_the_threshold_away():
    data = load_dataset("synthetic/gear", size=64, n_train=4)
    for learner in (ReverseDistillation("resnet18"), MemoryBank("resnet18")):
        learner.threshold = from_good(np.linspace(1, 2, 40), 0.1)
        if isinstance(learner, MemoryBank):
            learner.fit(data.train, progress=False)
        else:
            fit(learner, data.train, 1, progress=False)
        assert learner.threshold is None
