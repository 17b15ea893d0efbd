"""An end in good order, in one time for all steps."""

from actors.control.wind_down import Budget, carry_out


def test_all_waits_together_fit_into_the_time() -> None:
    now = [100.0]
    budget, waited = Budget(25.0, clock=lambda: now[0]), 0.0
    for share in (0.6, 0.8, 0.9):
        seconds = budget.until(share)
        now[0] += seconds  # each takes all that it may
        waited += seconds
    assert waited <= 0.9 * 25.0 + 1e-9
    assert budget.until(0.9) == 0.0


def test_what_one_step_leaves_the_next_one_has() -> None:
    now = [0.0]
    budget = Budget(10.0, clock=lambda: now[0])
    now[0] = 1.0
    assert budget.until(0.8) == 7.0


def test_a_step_that_fails_is_named_and_the_others_are_taken() -> None:
    taken = []

    def jam() -> None:
        raise OSError("no such actor")

    broken = carry_out(("first", lambda: taken.append(1)), ("second", jam), ("third", lambda: taken.append(3)))
    assert taken == [1, 3]
    assert broken == ["second failed: OSError: no such actor"]
