"""Coroutines that belong together: they end together, and what breaks one of them is raised."""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any


async def first_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all at once; where one ends or breaks, the others are cancelled. Raises what broke it."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await end(tasks)


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def take_ended(running: set[asyncio.Task[None]]) -> None:
    """Forget tasks that are done. Raises what broke one of them."""
    for task in [task for task in running if task.done()]:
        running.discard(task)
        task.result()
