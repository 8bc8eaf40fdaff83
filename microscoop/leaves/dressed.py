"""What a leaf submits instead of a function.  Runs in owners and in workers."""
from __future__ import annotations

from typing import Any, Callable

from ..tasks import Dressing, named


class Dressed(Dressing):
    """What a leaf has submitted instead of a function; goes by that function's name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.func = function
        self.__qualname__ = named(function)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)

    def at(self, item: int) -> Callable[..., Any]:
        """The function for this item; for whoever runs several items in one task."""
        return self
