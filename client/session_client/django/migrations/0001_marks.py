"""Create mosaic_marks.

Why: endings that an app's own sessions may not know yet.
Safe while the previous release runs: yes, nothing reads the table yet.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Creates one table."""

    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.CreateModel(
            name="Mark",
            fields=[
                ("name", models.CharField(max_length=300, primary_key=True, serialize=False)),
                ("at", models.FloatField()),
                ("until", models.FloatField(db_index=True)),
            ],
            options={"db_table": "mosaic_marks"},
        ),
    ]
