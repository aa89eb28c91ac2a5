"""The backend that users come from: it finds users whom the worker has named, and proves none."""

from __future__ import annotations

import logging
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest

log: Final = logging.getLogger(__name__)


class Backend(ModelBackend):
    """Finds users and their permissions as Django's own does. Passwords are Mosaic's business."""

    def authenticate(  # type: ignore[override]  # it takes whatever credentials there are
        self, request: HttpRequest | None, **credentials: Any
    ) -> AbstractBaseUser | None:
        """Prove no user: `session_client.django.log_in` does."""
        del request, credentials
        return None


def find_user(user_id: str) -> AbstractBaseUser | None:
    """Return what `find_any_user` does, but None for staff and superusers.

    They were given their rights under a name: whoever has that name for a user id at Mosaic would
    have these rights, in the admin too.
    """
    user: Any = find_any_user(user_id)
    if getattr(user, "is_staff", False) or getattr(user, "is_superuser", False):
        log.warning(
            "%.100r is staff here, and not let in by what Mosaic says; where nobody else can have "
            "that user id, say MOSAIC_SESSIONS['USER'] = '%s.find_any_user'",
            user_id,
            __name__,
        )
        return None
    return user  # type: ignore[no-any-return]


def find_any_user(user_id: str) -> AbstractBaseUser:
    """Return the user of that name, made if need be, with no password of Django's."""
    model: Any = get_user_model()
    user, is_new = model.objects.get_or_create(**{model.USERNAME_FIELD: user_id})
    if is_new:
        user.set_unusable_password()
        user.save()
    return user  # type: ignore[no-any-return]
