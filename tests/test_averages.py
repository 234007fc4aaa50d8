"""The forms of the average are what they claim to be, and leave the training as it is."""
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import averages

from rdlib import evaluate, fit
from rdlib.encoder import fingerprint
from rdlib.reproduction import Machine, RunConfig
from rdlib.reproduction.runs import OPTIONS, build, load

CONFIG = replace(averages.settings("synthetic/gear", 0, None), size=64, n_train=6, epochs=2)


@pytest.fixture(scope="module")
def data():
    whole = load(CONFIG, Machine())
    return replace(whole, test=whole.test.subset(range(35, 45)))


def train(data, *callbacks):
    """Train a small model, with the callbacks."""
    model = build(CONFIG, Machine())
    return fit(model, data.train, callbacks=callbacks, progress=False,
               **{name: getattr(CONFIG, name) for name in OPTIONS})


def test_the_averages_are_those_of_the_steps_and_training_goes_on_as_without(data):
    steps, wanted, watching = [], [], averages.SideBySide(data, 1)

    def keep(run):
        steps.append(run.model.student.stage1[0].conv1.weight.detach().double().clone())

    def at_end(run):
        if run.epoch == run.epochs:
            with run.averaged():
                wanted.append(evaluate(run.model, data.test, progress=False).image_auroc)

    run = train(data, watching, keep, at_end)
    assert run.losses == train(data).losses and len(steps) == 4
    average = steps[0]
    for weights in steps[1:]:
        average = 0.99 * average + 0.01 * weights
    found = watching.constant.average.module.student.stage1[0].conv1.weight
    torch.testing.assert_close(found.double(), average, rtol=1e-5, atol=1e-7)
    last = watching.curve["2"]
    assert tuple(last) == averages.FORMS and set(watching.curve) == {"1", "2"}
    assert last[averages.WARMED_UP]["image_auroc"] == wanted[0]
    assert len({tuple(values.values()) for values in last.values()}) == 4, "the forms differ"


def test_batchnorm_is_estimated_on_the_training_images_and_the_teacher_stays(data):
    run, inputs = train(data), []
    norm, teacher = run.model.student.stage3[0].bn1, fingerprint(run.model.teacher)
    old = norm.running_mean.clone()
    hook = norm.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().float().mean((0, 2, 3))))
    before = averages.re_estimate(run, DataLoader(data.train, 2))
    hook.remove()
    torch.testing.assert_close(norm.running_mean, torch.stack(inputs).mean(0), rtol=1e-4, atol=1e-5)
    assert len(inputs) == 3 and not torch.equal(norm.running_mean, old)
    assert torch.equal(before["student.stage3.0.bn1.running_mean"], old)
    assert fingerprint(run.model.teacher) == teacher


def test_the_table_is_that_of_the_records(tmp_path):
    for seed, end in ((0, 0.5), (1, 0.7)):
        curve = {epoch: {form: dict.fromkeys(averages.SHOWN, value + k / 100) for k, form in enumerate(averages.FORMS)}
                 for epoch, value in (("5", 0.9), ("15", 0.4), ("10", 0.1), ("20", end))}
        record = {"config": {"dataset": "synthetic/gear", "seed": seed}, "curve": curve}
        (tmp_path / f"gear_seed{seed}.json").write_text(json.dumps(record))
    head, _, *lines = averages.table(tmp_path).splitlines()
    assert [cell.strip() for cell in head.split("|")[2:-1]] == [
        "image AUROC", "pixel AUROC", "AUPRO", "image AUROC, worst of last half", "image AUROC, swing"]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [row[0] for row in cells] == [f"synthetic/gear: {form}" for form in averages.FORMS]
    assert cells[0][1:] == ["0.600 ± 0.141"] * 3 + ["0.400 ± 0.000", "0.200 ± 0.141"] and "0.630" in cells[3][1]


@pytest.mark.parametrize("path", sorted(averages.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_record_has_the_settings_of_the_script(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    config = RunConfig(**found["config"])
    assert config == replace(averages.settings(config.dataset, config.seed, None), weights_id=config.weights_id)
    assert found["metrics"] == found["curve"][str(config.epochs)] and tuple(found["metrics"]) == averages.FORMS
    assert {"command", "date", "hardware", "versions", "revision"} <= set(found)
    assert path.stem == f"{config.dataset.partition('/')[2]}_seed{config.seed}"
