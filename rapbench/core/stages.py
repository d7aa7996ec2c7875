"""What a command is at, told to whoever listens: its stages, and how much of one is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Listener(Protocol):
    """Who is told."""

    def begins(self, stage: str, images: int, of: str) -> None:
        """A stage begins, within the one that was begun last and has not ended."""

    def advances(self, images: int) -> None:
        """So many more images, or inputs made of them, are done in the stage."""

    def ends(self) -> None:
        """The stage that was begun last is over."""


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within it the listener is told, and no other."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def stage(name: str, images: int = 0, of: str = "") -> Iterator[None]:
    """A stage of work on so many images, 0 where they are not counted; `of` names the method that it is done for."""
    if listener := _LISTENER.get():
        listener.begins(name, images, of)
    try:
        yield
    finally:
        if listener:
            listener.ends()


def advance(images: int) -> None:
    """So many more images, or inputs made of them, are done in the stage that is at work."""
    if listener := _LISTENER.get():
        listener.advances(images)
