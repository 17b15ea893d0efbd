"""What the viewers of a page are sent."""

import asyncio
import itertools
import json

from fastapi.responses import StreamingResponse

from actors.control.stream import REFRESH_SECONDS, Stream


class Parts:
    """The first part changes each time it is asked, the second never."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> dict[str, str]:
        self.asked += 1
        return {"first": str(self.asked), "second": "same"}


def heard(stream: Stream, events: int) -> list[dict[str, str]]:
    """What one viewer hears at first."""

    async def listen() -> list[dict[str, str]]:
        response, found = stream.response(), []
        assert isinstance(response, StreamingResponse)
        async for message in response.body_iterator:
            text = message if isinstance(message, str) else bytes(message).decode()
            assert text.endswith("\n\n")
            if text.startswith("data: "):
                found.append(json.loads(text.removeprefix("data: ")))
            if len(found) == events:
                break
        return found

    return asyncio.run(listen())


def test_everything_is_sent_first_and_then_what_has_changed() -> None:
    stream = Stream(Parts(), itertools.count(0.0, REFRESH_SECONDS).__next__)
    assert heard(stream, 3) == [{"first": "1", "second": "same"}, {"first": "2"}, {"first": "3"}]


def test_however_many_watch_the_parts_are_made_once_a_refresh() -> None:
    parts = Parts()
    stream = Stream(parts, lambda: 0.0)
    assert heard(stream, 1) == heard(stream, 1)
    assert parts.asked == 1


def test_a_stream_that_is_closed_ends() -> None:
    stream = Stream(Parts())
    stream.close()
    assert heard(stream, 1) == []
