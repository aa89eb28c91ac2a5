"""`DatabaseMarks`: marks in the database that Django uses; those that are over go with each new."""

from __future__ import annotations

import time
from collections.abc import Sequence

from session_client.django.models import Mark


class DatabaseMarks:
    """Marks in the table of `session_client.django`, which ``migrate`` makes."""

    def put(self, name: str, at: float, lasts: float) -> None:
        """Keep that *name* ended at *at*, for *lasts* seconds."""
        now = time.time()
        Mark.objects.filter(until__lte=now).delete()
        Mark.objects.update_or_create(name=name, defaults={"at": at, "until": now + lasts})

    def look(self, names: Sequence[str]) -> dict[str, float]:
        """Return the times of those of *names* that are marked."""
        found = Mark.objects.filter(name__in=names, until__gt=time.time())
        return dict(found.values_list("name", "at"))
