"""What a step of a login method is: a frozen dataclass of texts that know their own limits.

`methods` has the table of them.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from session_client.begun import Begun
from session_client.contract import Method
from session_client.errors import WrongFieldsError
from session_client.words import Word

if TYPE_CHECKING:
    from typing_extensions import Self

S = TypeVar("S", bound=Begun)


# What a user is asked to approve: Mosaic's limits, and ours on the texts' length.
MAX_APPROVED: Final = 10
_APPROVED_TEXT: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")


class Step(Word):
    """What is done of a method: ``start`` and ``verify`` prepare, ``authenticate`` completes."""

    START = "start"
    VERIFY = "verify"
    AUTHENTICATE = "authenticate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a field of a step may hold: text, always."""

    longest: int
    is_required: bool
    is_secret: bool
    # What users type or paste is passed on as it is: a password may hold any character.
    takes_any_character: bool
    # It says who signs in. In a step-up the session says so, and it is left out.
    names_user: bool
    one_of: tuple[str, ...]

    def allow(self, value: object) -> bool:
        """Whether the field may hold *value*."""
        if not isinstance(value, str) or not 0 < len(value) <= self.longest:
            return False
        if self.one_of and value not in self.one_of:
            return False
        refused = {"Cs"} if self.takes_any_character else {"Cc", "Cs"}
        return not any(unicodedata.category(character) in refused for character in value)


def text(  # noqa: PLR0913 - each is a column of the table
    longest: int,
    *,
    default: Any = dataclasses.MISSING,
    is_secret: bool = False,
    takes_any_character: bool = False,
    names_user: bool = False,
    is_required: bool | None = None,
    one_of: tuple[str, ...] = (),
) -> Any:
    """Return a field of a step: needed if it has no *default*, unless *is_required* says."""
    limits = Limits(
        longest=longest,
        is_required=default is dataclasses.MISSING if is_required is None else is_required,
        is_secret=is_secret,
        takes_any_character=takes_any_character,
        names_user=names_user,
        one_of=one_of,
    )
    return field(default=default, repr=not is_secret, metadata={"limits": limits})


def identifier() -> Any:
    """Return a field that says who signs in."""
    return text(255, default=None, names_user=True, is_required=True)


def identifier_type() -> Any:
    """Return a field that says what the identifier is."""
    # Mosaic knows email, phone_number, user_id, username, and what an operator adds there.
    return text(64, default=None, names_user=True, is_required=True)


def typed_code() -> Any:
    """Return a field for a code that the user types."""
    return text(64, is_secret=True, takes_any_character=True)


class LoginStep:
    """What all steps have in common. Their fields are text; secret ones are in no repr."""

    method: ClassVar[Method]
    step: ClassVar[Step]
    # Whether it goes on with what a first step began, whose handle must then come along.
    needs_login: ClassVar[bool] = False

    def fields(self) -> dict[str, str]:
        """Return what is given, under the contract's names."""
        values = {name: getattr(self, name) for name in limits_of(type(self))}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any], *, is_step_up: bool) -> Self:
        """Return the step that *fields* describe.

        Raises `WrongFieldsError`, which quotes nothing.
        """
        values = {name: value for name, value in fields.items() if value is not None}
        wrong = sorted(_wrong(limits_of(cls), values, is_step_up=is_step_up))
        if wrong:
            raise WrongFieldsError(wrong)
        return cls(**values)


class FirstStep(LoginStep, Generic[S]):
    """A step that prepares a login. It answers with *S*: the handle, and what to show."""

    gives: ClassVar[type[Begun]]
    # Whether the user can approve something by what it begins, and whether that is all it is for.
    takes_approval_data: ClassVar[bool] = False
    needs_approval_data: ClassVar[bool] = False
    # What goes on with the handle it gives.
    next_step: ClassVar[type[LoginStep]]


class Proof(LoginStep):
    """What proves the user: it completes a login, or adds a factor to a session."""

    step: ClassVar[Step] = Step.AUTHENTICATE


def approval_complaint(
    step: type[FirstStep[Any]], approval_data: object, *, is_step_up: bool
) -> str | None:
    """Return what is wrong with asking a user to approve *approval_data* by *step*, if anything."""
    if approval_data is None:
        return f"{step.__name__} is for approving something" if step.needs_approval_data else None
    if not step.takes_approval_data:
        return f"{step.__name__} approves nothing; codes, passkeys and BeginTotpTransaction do"
    if not is_step_up:
        return "only a user who is signed in approves: give step_up"
    if not _is_approvable(approval_data):
        return (
            f"1 to {MAX_APPROVED} texts by name, each of letters, digits, _, . and - alone,"
            " 255 at most"
        )
    return None


def _is_approvable(data: object) -> bool:
    return (
        isinstance(data, Mapping)
        and 0 < len(data) <= MAX_APPROVED
        and all(
            isinstance(text, str) and _APPROVED_TEXT.fullmatch(text)
            for pair in data.items()
            for text in pair
        )
    )


def limits_of(step: type[LoginStep]) -> dict[str, Limits]:
    """Return the step's fields in their order, each with what it may hold."""
    assert dataclasses.is_dataclass(step)  # noqa: S101 - those of the table are
    return {known.name: known.metadata["limits"] for known in dataclasses.fields(step)}


def _wrong(
    known: Mapping[str, Limits], fields: Mapping[str, Any], *, is_step_up: bool
) -> Iterator[str]:
    if fields.keys() - known.keys():
        yield "unknown field"  # its name is the sender's text, and may be a secret
    for name, limits in known.items():
        is_wanted = not (limits.names_user and is_step_up)
        if name not in fields:
            if limits.is_required and is_wanted:
                yield name
        elif not (is_wanted and limits.allow(fields[name])):
            yield name
