"""Alembic migrations, one file a step; an applied one is never edited."""
