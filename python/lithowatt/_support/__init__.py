"""What every other package here may use and what uses none of them: files, settings, text.

`attach` is here and not in a module of its own, which `import lithowatt` would load as well.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def attach(
    package: str, namespace: dict[str, object], homes: Mapping[str, str]
) -> Callable[[str], object]:
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
        from importlib import import_module

        if not home:
            return import_module(f"{package}.{name}")
        outside = home.partition(".")[0] == package.partition(".")[0]
        value: object = getattr(import_module(home if outside else f"{package}.{home}"), name)
        namespace[name] = value
        return value

    return find
