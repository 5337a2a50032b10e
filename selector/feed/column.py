"""A list that is made when it is first looked at."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")


class Column(Sequence[T]):
    """A list that is made when it is first looked at; equal to the list that it becomes.

    Args:
        make: Gives the list.
        size: Its length.
    """

    __hash__ = None  # type: ignore[assignment]  # like a list

    def __init__(self, make: Callable[[], list[T]], size: int) -> None:
        self._make: Callable[[], list[T]] | None = make
        self._size = size
        self._list: list[T] = []

    def _all(self) -> list[T]:
        if self._make is not None:
            self._list, self._make = self._make(), None
        return self._list

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Column[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Column[T]":
        if isinstance(index, slice):
            return Column(lambda: self._all()[index], len(range(*index.indices(self._size))))
        return self._all()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return self._all() == (other._all() if isinstance(other, Column) else other)

    def __repr__(self) -> str:
        return repr(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return _whole, (self._all(),)


def _whole(values: list[T]) -> Column[T]:
    return Column(lambda: values, len(values))
