"""What ``import producers`` gives."""

import inspect
import subprocess
import sys

import producers
from producers import AsyncHeadrace, Headrace


def test_every_public_name_exists_and_is_documented() -> None:
    assert producers.__all__ == sorted(producers.__all__)
    for name in producers.__all__:
        assert inspect.getdoc(getattr(producers, name)), name


def test_nothing_public_is_left_out_of_all() -> None:
    public = {name for name, value in vars(producers).items() if inspect.isclass(value)}

    assert public == set(producers.__all__)


def test_the_asynchronous_client_has_the_methods_of_the_other() -> None:
    def methods(client: type) -> set[str]:
        return {name for name in vars(client) if not name.startswith("_")}

    # These two give futures, which an event loop's client awaits instead.
    assert methods(Headrace) - methods(AsyncHeadrace) == {"send", "expect"}
    assert methods(AsyncHeadrace) <= methods(Headrace)


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    script = "import sys, producers.cli; print(*{'torch', 'sqlalchemy', 'redis', 'faust', 'rich'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == ""
