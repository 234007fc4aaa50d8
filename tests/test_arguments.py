"""Every argument of the public functions is checked before any work, in words that name it."""
import math

import numpy as np
import pytest
import torch

from rdlib.utils.errors import check_choice, check_number

NO_NUMBERS = [None, "0.5", True, np.bool_(True), math.nan, math.inf, -math.inf, [0.5], np.array([0.5, 0.5]), 10**400]


@pytest.mark.parametrize("number", [*NO_NUMBERS, 0, -1, 1.5])
def test_a_number_outside_its_interval_is_refused_with_name_value_and_interval(number):
    with pytest.raises(ValueError) as error:
        check_number("fpr_limit", number, "(0, 1]")
    assert str(error.value).startswith("fpr_limit must be a number in (0, 1]; got ")
    assert repr(number)[:50] in str(error.value)


@pytest.mark.parametrize("number", [1, 0.3, np.float32(0.5), np.int64(1), np.float16(0.25)])
def test_numbers_of_numpy_and_ends_of_closed_intervals_pass_as_float(number):
    assert type(check_number("x", number, "(0, 1]")) is float and check_number("x", number, "[0, 1]") == float(number)


def test_ends_of_open_intervals_and_numbers_without_a_float_are_refused():
    for number, interval in [
            (0, "(0, 1)"), (1, "(0, 1)"), (1, "[0, 1)"), (10**400, "[0, inf)"), (math.inf, "[0, inf)")]:
        with pytest.raises(ValueError, match="must be a number in"):
            check_number("x", number, interval)
    assert check_number("x", 0, "[0, inf)") == 0


@pytest.mark.parametrize("value", [[], {}, np.zeros(3), torch.zeros(3), None, 1.5, "ad"])
def test_a_choice_of_any_type_is_refused_with_the_choices(value):
    with pytest.raises(ValueError, match="There is no fusion .*Choose one of: add, multiply"):
        check_choice("fusion", value, ("add", "multiply"))
