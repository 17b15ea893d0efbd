"""Which faults befall a fleet."""

from collections import Counter

from actors.fleet.faults import FAULTS, LASTS_SECONDS, schedule


def test_a_seed_is_a_schedule() -> None:
    assert schedule(3, 60) == schedule(3, 60)
    assert schedule(3, 60) != schedule(4, 60)


def test_faults_come_in_order_as_often_as_configured_and_of_every_kind() -> None:
    faults = schedule(0, 10_000)
    assert [f.seconds for f in faults] == sorted(f.seconds for f in faults)
    counts = Counter(f.role for f in faults)
    for role, (mean, kinds) in FAULTS.items():
        assert abs(counts[role] - 10_000 / mean) < 5 * (10_000 / mean) ** 0.5
        assert {f.kind for f in faults if f.role == role} == set(kinds)


def test_a_kill_is_for_good_and_everything_else_ends() -> None:
    for fault in schedule(1, 1000):
        assert 0 <= fault.pick < 1
        assert fault.lasts == 0 if fault.kind == "kill" else LASTS_SECONDS[0] <= fault.lasts <= LASTS_SECONDS[1]


def test_faults_of_one_role_do_not_depend_on_what_befalls_another() -> None:
    alone = schedule(5, 300, {"generator": FAULTS["generator"]})
    assert [f for f in schedule(5, 300) if f.role == "generator"] == alone
