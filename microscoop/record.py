"""Named tuples that cost little to define.  Runs everywhere.

typing.NamedTuple compiles a function for each class, which takes 0.15 ms: the fifty that a run needs were a tenth of
its start.  What is left out is what they have beyond names, defaults, _replace and a repr.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Record"]

if TYPE_CHECKING:
    from typing import NamedTuple as Record
else:
    from _collections import _tuplegetter

    class _Maker(type):
        """Makes a field of each annotation."""

        def __new__(cls, name, bases, space):
            fields = tuple(space.get("__annotations__", ()))
            defaults = {field: space.pop(field) for field in fields if field in space}
            getters = {field: _tuplegetter(i, field) for i, field in enumerate(fields)}
            return super().__new__(cls, name, bases, {
                **space, **getters, "_fields": fields, "_field_defaults": defaults, "__slots__": (),
                "_at": {field: i for i, field in enumerate(fields)}})

    class Record(tuple, metaclass=_Maker):
        """As typing.NamedTuple."""

        def __new__(cls, *values, **named):
            if named or len(values) != len(cls._fields):
                given = {**cls._field_defaults, **dict(zip(cls._fields, values)), **named}
                if len(values) > len(cls._fields) or given.keys() != set(cls._fields):
                    raise TypeError("%s takes %s, not %r and %r" % (cls.__name__, cls._fields, values, named))
                values = [given[field] for field in cls._fields]
            return tuple.__new__(cls, values)

        def __getnewargs__(self):
            return tuple(self)

        def _replace(self, **changes):
            """The same with other values of some fields."""
            values = list(self)
            for field, value in changes.items():
                if field not in self._at:
                    raise ValueError("%s has no %s" % (type(self).__name__, field))
                values[self._at[field]] = value
            return tuple.__new__(type(self), values)

        def __repr__(self):
            return "%s(%s)" % (type(self).__name__, ", ".join(map("%s=%r".__mod__, zip(self._fields, self))))
