"""The backend that users come from: it finds users whom the worker has named, and proves none."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest


class Backend(ModelBackend):
    """Finds users and their permissions as Django's own does. Passwords are Mosaic's business."""

    def authenticate(  # type: ignore[override]  # it takes whatever credentials there are
        self, request: HttpRequest | None, **credentials: Any
    ) -> AbstractBaseUser | None:
        """Prove no user: `session_client.django.log_in` does."""
        del request, credentials
        return None


def find_user(user_id: str) -> AbstractBaseUser:
    """Return the user of that name, made if need be, with no password of Django's."""
    model: Any = get_user_model()
    user, is_new = model.objects.get_or_create(**{model.USERNAME_FIELD: user_id})
    if is_new:
        user.set_unusable_password()
        user.save()
    return user  # type: ignore[no-any-return]
