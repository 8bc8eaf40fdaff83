"""What there is at a site."""
from typing import NamedTuple, Tuple, Union


class Circle(NamedTuple):
    radius: float


class Rectangle(NamedTuple):
    width: float
    height: float


def read(line: str) -> Tuple[str, Union[Circle, Rectangle]]:
    """The name of a site and its shape, from a line like `the oak,circle,3`."""
    name, kind, *sizes = line.strip().split(",")
    return name, {"circle": Circle, "rectangle": Rectangle}[kind](*map(float, sizes))
