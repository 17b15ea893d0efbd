"""Who is on the list, who is taken off it, and who is taken back."""

from hypothesis import given
from hypothesis import strategies as st

from actors.membership import Membership, Report


def names(membership: Membership, role: str | None = None) -> list[str]:
    return [member.name for member in membership.alive(role)]


def test_whoever_is_heard_is_alive_until_the_heartbeat_timeout() -> None:
    membership = Membership(timeout_seconds=20)
    assert membership.heard("g", "generator", 0.0)
    assert not membership.heard("g", "generator", 15.0)
    assert membership.expire(35.0) == []
    assert [member.name for member in membership.expire(35.1)] == ["g"]
    assert membership.expire(35.2) == [], "it is lost once"
    assert names(membership) == []


def test_whoever_speaks_again_is_taken_back_with_its_report() -> None:
    membership = Membership(timeout_seconds=20)
    membership.heard("g", "generator", 0.0, Report(version=7, generated_tokens=5))
    membership.expire(100.0)
    assert membership.version("g") == 0
    assert membership.heard("g", "generator", 101.0)
    assert membership.version("g") == 7
    assert membership.expire(102.0) == []
    assert membership.totals()["generator"].generated_tokens == 5, "it counts once"


def test_a_removed_member_is_gone_at_once() -> None:
    membership = Membership(timeout_seconds=20)
    membership.heard("g", "generator", 0.0)
    assert membership.remove("g")
    assert not membership.remove("g")
    assert not membership.remove("unknown")
    assert names(membership) == []


def test_what_a_process_sent_before_it_left_does_not_put_it_back_on_the_list() -> None:
    membership = Membership(timeout_seconds=20)
    membership.heard("g", "generator", 0.0, Report(generated_tokens=5))
    membership.remove("g")
    assert not membership.heard("g", "generator", 1.0)
    assert names(membership) == []
    assert membership.heard("g", "generator", 2.0, Report(process="the next", generated_tokens=1))
    assert names(membership) == ["g"]
    assert membership.totals()["generator"].generated_tokens == 6


def test_members_are_listed_by_role() -> None:
    membership = Membership(timeout_seconds=20)
    for name, role in (("g1", "generator"), ("v1", "verifier"), ("g2", "generator")):
        membership.heard(name, role, 0.0)
    assert names(membership, "generator") == ["g1", "g2"]
    assert names(membership) == ["g1", "v1", "g2"]


def test_a_lost_heartbeat_loses_no_tokens() -> None:
    membership = Membership(timeout_seconds=20)
    membership.heard("g", "generator", 0.0, Report(generated_tokens=10))
    membership.heard("g", "generator", 9.0, Report(generated_tokens=40))  # those between were lost
    assert membership.totals()["generator"].generated_tokens == 40


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from(["beat", "word", "exit"]), st.floats(0, 15), st.integers(0, 9)
        )
    )
)
def test_totals_never_fall_whoever_dies_or_comes_back(steps: list[tuple[str, str, float, int]]) -> None:
    membership = Membership(timeout_seconds=20)
    said = dict.fromkeys("abc", 0)
    now, before = 0.0, 0
    for name, what, pause, tokens in steps:
        now += pause
        if what == "exit":
            membership.remove(name)
        elif what == "word":
            membership.heard(name, "generator", now)
        else:
            said[name] += tokens
            membership.heard(name, "generator", now, Report(generated_tokens=said[name]))
        membership.expire(now)
        total = membership.totals()["generator"].generated_tokens
        assert total == sum(said.values()) >= before
        before = total


def test_another_process_under_the_same_name_adds_to_the_totals() -> None:
    membership = Membership(timeout_seconds=20)
    membership.heard("learner", "learner", 0.0, Report(process="a", uptime_seconds=50, trained_tokens=900))
    membership.remove("learner")
    membership.heard("learner", "learner", 9.0, Report(process="b", uptime_seconds=1, trained_tokens=5))
    membership.heard("learner", "learner", 10.0, Report(process="b", uptime_seconds=2, trained_tokens=8))
    assert membership.totals()["learner"].trained_tokens == 908


def test_a_late_word_of_a_process_that_has_a_successor_counts_once_and_not_against_it() -> None:
    membership = Membership(timeout_seconds=20)
    said = [("a", 50, 900), ("b", 1, 5), ("a", 51, 950), ("b", 2, 8), ("a", 49, 800), ("b", 3, 9)]
    for process, uptime, tokens in said:
        report = Report(process=process, uptime_seconds=uptime, trained_tokens=tokens)
        membership.heard("learner", "learner", float(uptime), report)
    assert membership.totals()["learner"].trained_tokens == 950 + 9


def test_who_is_silent_is_told_from_who_has_exited() -> None:
    membership = Membership(timeout_seconds=20)
    for name in ("suspended", "dead", "well"):
        membership.heard(name, "generator", 0.0, Report(generated_tokens=10))
    membership.heard("well", "generator", 30.0)
    membership.expire(30.0)
    assert {member.name for member in membership.silent()} == {"suspended", "dead"}
    membership.remove("dead")
    assert [member.name for member in membership.silent()] == ["suspended"]
    membership.heard("suspended", "generator", 31.0)
    assert list(membership.silent()) == []
    assert names(membership) == ["well", "suspended"]
    assert membership.totals()["generator"].generated_tokens == 30


def test_an_older_report_that_comes_late_changes_nothing() -> None:
    membership = Membership(timeout_seconds=20)
    for uptime, tokens in ((10, 500), (9, 400), (11, 600)):
        membership.heard("g", "generator", 0.0, Report(process="a", uptime_seconds=uptime, generated_tokens=tokens))
        assert membership.totals()["generator"].generated_tokens == max(500, tokens)
