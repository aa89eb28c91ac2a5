"""Alembic migrations; `alembic upgrade head` reads its settings like the worker does."""
