"""What every other package here may use and what uses none of them: files, settings, text.

`attach` is here and not in a module of its own, which `import lithowatt` would load as well.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def attach(
    package: str, namespace: dict[str, object], homes: "Mapping[str, str]"
) -> "Callable[[str], object]":
    """The ``__getattr__`` of a package whose names live in other modules.

    Args:
        package: ``__name__`` of the package.
        namespace: ``globals()`` of the package: a name that was found is kept there.
        homes: The module of each name: below the package, or absolute. A name whose home is the
            empty string is a module of the package itself.
    """

    def find(name: str) -> object:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not home:
            return loaded(f"{package}.{name}")
        absolute = home.partition(".")[0] == package.partition(".")[0]
        value: object = getattr(loaded(home if absolute else f"{package}.{home}"), name)
        namespace[name] = value
        return value

    return find


def loaded(module: str) -> object:
    """The module of that name, as `importlib.import_module`, which alone takes a millisecond."""
    __import__(module)
    return sys.modules[module]
