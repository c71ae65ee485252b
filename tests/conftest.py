"""The fixtures that every test may use; those of one folder lie in its own conftest."""

from tests.servers import database_url, kafka, package_database_url, redis_url, stack_env

__all__ = ["database_url", "kafka", "package_database_url", "redis_url", "stack_env"]
