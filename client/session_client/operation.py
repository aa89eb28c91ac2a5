"""A call of a client, made from the one place where it is declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from session_client._core.app import App
from session_client._core.call import Steps

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Call(Protocol[R_co]):
    """What can be asked: how long it may take, and how it goes."""

    @property
    def timeout(self) -> float:
        """How long it may take, in seconds."""
        ...

    def life(self, app: App, until: float) -> Steps[R_co]:
        """Return how it goes, step by step."""
        ...


class Blocking(Protocol):
    """A client whose calls return what they come to."""

    def _run(self, call: Call[R]) -> R: ...


class Awaiting(Protocol):
    """A client whose calls are awaited."""

    def _run(self, call: Call[R]) -> Coroutine[Any, Any, R]: ...


class Operation(Generic[P, R]):
    """As a method it takes what *declared* takes, and comes to what that says."""

    def __init__(self, declared: Callable[P, Call[R]]) -> None:
        self._declared = declared
        self.__doc__ = declared.__doc__
        # What is returned the types say: it depends on the client, and on what is asked. Found out
        # now: what a first call must find out, under a lock, a child forked meanwhile waits for.
        found = inspect.signature(declared)
        self.__signature__ = found.replace(return_annotation=inspect.Signature.empty)

    def __set_name__(self, _owner: type, name: str) -> None:
        self.__name__ = name

    @overload
    def __get__(self, client: None, owner: type) -> Operation[P, R]: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, client: Blocking | Awaiting | None, owner: type) -> Any:
        if client is None:
            return self
        run, declared = client._run, self._declared  # noqa: SLF001 - of the same package

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return run(declared(*args, **kwargs))

        call.__doc__, call.__name__ = self.__doc__, self.__name__
        # For `help`. Without it a reader is told of "*args".
        call.__signature__ = self.__signature__  # type: ignore[attr-defined]
        return call
