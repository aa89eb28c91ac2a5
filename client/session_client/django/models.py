"""Marks of sessions that have ended, in Django's own database."""

from __future__ import annotations

from django.db import models


class Mark(models.Model):
    """A session, or a user's, that ended ``at`` (seconds). It is of no use after ``until``."""

    name: models.CharField[str, str] = models.CharField(max_length=300, primary_key=True)
    at: models.FloatField[float, float] = models.FloatField()
    until: models.FloatField[float, float] = models.FloatField(db_index=True)

    class Meta:
        """Names of the table."""

        db_table = "mosaic_marks"

    def __str__(self) -> str:
        return self.name
