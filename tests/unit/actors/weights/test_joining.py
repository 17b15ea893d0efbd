"""Groups of several stripes, of which each is received by a thread of its own; no group is formed."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch

from actors.weights import joining as module
from actors.weights.buckets import Parameter
from actors.weights.group import GroupInfo, StripedInfo
from actors.weights.joining import Joining, Received
from actors.weights.staging import Staging

CPU = torch.device("cpu")
PARAMETERS = [Parameter(name, torch.float32, (2,)) for name in "abcde"]


class FakeGroup:
    """Receives zeros; from a port in `broken` nothing."""

    made: ClassVar[list["FakeGroup"]] = []
    broken: ClassVar[set[int]] = set()

    def __init__(self, info: GroupInfo, worker: int, device: torch.device) -> None:  # noqa: ARG002
        self.info, self.worker, self.deltas, self.given_up = info, worker, [], False
        self.made.append(self)

    def receive(self, parameters: list[Parameter], staging: Staging, *, delta: bool) -> Received:  # noqa: ARG002
        self.deltas.append(delta)
        if self.info.master_port in self.broken:
            raise RuntimeError(f"{self.info.master_address} is gone")
        return [(parameter.name, torch.zeros(parameter.shape)) for parameter in parameters]

    def give_up(self) -> None:
        self.given_up = True


@pytest.fixture(autouse=True)
def groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    FakeGroup.made, FakeGroup.broken = [], set()
    monkeypatch.setattr(module, "JoiningGroup", FakeGroup)
    yield


def info(**changes: Any) -> StripedInfo:
    return StripedInfo("gloo", "10.0.0.1", 5, 1, 3, 64, 20.0, **changes)


def test_one_group_is_joined_as_it_was_told() -> None:
    joining = Joining(info(), 1, CPU)
    (group,) = FakeGroup.made
    assert (group.info, group.worker) == (GroupInfo("gloo", "10.0.0.1", 5, 1, 3, 64, 20.0), 1)
    assert [name for name, _ in joining.receive(PARAMETERS, Staging(), delta=False)] == list("abcde")


def test_each_stripe_has_a_group_at_its_own_address_and_they_come_in_order() -> None:
    joining = Joining(info(meet_at=["10.0.0.2:6", "[fd00::3]:7"]), 1, CPU)
    found = [(group.info.master_address, group.info.master_port, group.info.rank_offset) for group in FakeGroup.made]
    assert found == [("10.0.0.1", 5, 1), ("10.0.0.2", 6, 1), ("fd00::3", 7, 1)]
    received = joining.receive(PARAMETERS, Staging(), delta=True, stripes=[2, 0, 3])
    assert [name for name, _ in received] == list("abcde")
    assert [group.deltas for group in FakeGroup.made] == [[True]] * 3
    joining.give_up()
    assert all(group.given_up for group in FakeGroup.made)


def test_a_stripe_that_breaks_breaks_the_update() -> None:
    joining = Joining(info(meet_at=["10.0.0.2:6"]), 0, CPU)
    FakeGroup.broken = {6}
    with pytest.raises(RuntimeError, match=r"10\.0\.0\.2 is gone"):
        joining.receive(PARAMETERS, Staging(), delta=False, stripes=[2, 3])


@pytest.mark.parametrize("stripes", [None, [5], [2, 2], [2, 4], [1, 2, 2]])
def test_stripes_that_do_not_fit_the_groups_are_refused(stripes: list[int] | None) -> None:
    joining = Joining(info(meet_at=["10.0.0.2:6"]), 0, CPU)
    with pytest.raises(ValueError, match="for 2 groups"):
        joining.receive(PARAMETERS, Staging(), delta=False, stripes=stripes)
