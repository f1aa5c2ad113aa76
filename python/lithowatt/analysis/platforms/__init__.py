"""Where stages run: one protocol, and the platforms that answer it.

>>> from lithowatt.analysis.platforms import Price, platform_named
>>> platform_named("kubernetes", price=Price(vcpu_hour=0.04)).name
'k8s'
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from lithowatt._support.arguments import shown
from lithowatt.analysis.platforms._platform import (
    DEFAULT_REGION,
    Platform,
    Price,
    Share,
    Worker,
)
from lithowatt.analysis.platforms.aws_lambda import AwsLambda
from lithowatt.analysis.platforms.machines import (
    FunctionSandbox,
    Kubernetes,
    Localhost,
    Server,
    several,
)

__all__ = [
    "AwsLambda",
    "FunctionSandbox",
    "Kubernetes",
    "Localhost",
    "Platform",
    "Price",
    "Server",
    "Share",
    "Worker",
    "platform_named",
]

#: The names that a user can choose from.
PLATFORMS: dict[str, Platform] = {
    "aws-lambda": AwsLambda(),
    "kubernetes": Kubernetes(),
    "localhost": Localhost(),
    "server": Server(),
}

#: Lithops' backends that are something else than a server.
_BACKENDS: dict[str, Platform] = {
    **{one.name: one for one in PLATFORMS.values()},
    "knative": Kubernetes("knative"),
    # Their sandboxes exist for one function, as a meter in them would find out.
    **{
        name: FunctionSandbox(name)
        for name in (
            "gcp_functions",
            "gcp_cloudrun",
            "azure_functions",
            "azure_containers",
            "aliyun_fc",
        )
    },
}


def platform_named(name: str, region: str = DEFAULT_REGION, price: Price | None = None) -> Platform:
    """A platform by the name that a user knows, or by Lithops' name of the backend.

    Args:
        name: One of `PLATFORMS`, or one of Lithops' backends.
        region: Of the prices of a provider.
        price: Of a worker's seconds, where no table has it.

    Raises:
        ValueError: For another name, or a price of a platform whose prices are in a table.
    """
    found = PLATFORMS.get(name) or _BACKENDS.get(name)
    if found is None:
        raise ValueError(f"platform {name!r:.80} is not one of {', '.join(PLATFORMS)}")
    return with_price(found, region, price)


def platform_of_backend(name: str | None) -> Platform:
    """The platform of one of Lithops' backends; an unknown one is a server.

    Example:
        >>> platform_of_backend("aws_lambda").most_vcpus
        6.0
        >>> platform_of_backend("ibm_vpc")
        Server(name='ibm_vpc', price=None, definition='marginal')
    """
    return _BACKENDS.get(name or "") or Server(name or "server")


def with_price(platform: Platform, region: str, price: Price | None) -> Platform:
    """The same platform with the prices of a region, or with a price of the user's.

    Raises:
        ValueError: For a price of a platform whose prices are in a table, or that has its own.
    """
    if isinstance(platform, AwsLambda):
        if price is not None:
            raise ValueError(
                f"the prices of {platform.name} are in a table, by region: a price per vCPU-hour "
                "and GiB-hour is for other platforms"
            )
        return replace(platform, region=region)
    if price is None:
        return platform
    if isinstance(platform, Server):
        return replace(platform, price=price)
    raise ValueError(f"platform {platform.name} answers its cost itself: it takes no price")


def checked_platform(platform: object) -> Platform:
    """What was given as a platform, where it can answer as one.

    Raises:
        TypeError: For a class, and for an object without one of the names of `Platform`.
    """
    names = [name for name in (*vars(Platform), *Platform.__annotations__) if name[0] != "_"]
    missing = [name for name in names if not hasattr(platform, name)]
    if isinstance(platform, type) or missing:
        raise TypeError(
            f"platform must be a Platform or one of {', '.join(PLATFORMS)}, not {shown(platform)}"
        )
    return cast("Platform", platform)


def check_price(price: object) -> None:
    """Refuses what is no price.

    Raises:
        TypeError: For what is neither a `Price` nor ``None``.
    """
    if price is not None and not isinstance(price, Price):
        raise TypeError(f"price must be a lithowatt.analysis.platforms.Price, not {shown(price)}")


def common_platform(platforms: Iterable[Platform]) -> Platform:
    """The platform of all of these; where they differ, one that has neither price nor power."""
    # Observations of one profile share the object, which spares comparing it a thousand times.
    first, *others = {id(one): one for one in platforms}.values()
    if all(one == first for one in others):
        return first
    return several(one.name for one in (first, *others))
