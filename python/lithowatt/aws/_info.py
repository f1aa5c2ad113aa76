"""``aws_cpu``: the hardware of a call in one text. A worker loads this for each call on AWS."""

from __future__ import annotations

from lithowatt.stats import value_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: What a Lambda function is called in FlexExecutor's profiles.
_LAMBDA_IN_PROFILES = "lambda-function"


def extract_aws_energy_info(stats: Mapping[str, Any]) -> str:
    """The hardware of a call in the form of FlexExecutor's ``aws_cpu`` column.

    Args:
        stats: The stats of a call, as Lithops carries them or without the prefix.

    Returns:
        ``type:…|arch:…|lambda:…|mem:…`` with ``unknown`` for what is ``None`` or missing. A Lambda
        function is ``type:lambda-function``, as in profiles that FlexExecutor's users have.

    Example:
        >>> extract_aws_energy_info({
        ...     "aws_instance_type": "lambda",
        ...     "aws_architecture": "aarch64",
        ...     "aws_is_lambda": True,
        ...     "aws_memory_size": 1024,
        ... })
        'type:lambda-function|arch:aarch64|lambda:True|mem:1024'
    """

    def of(name: str) -> Any:
        return value_of(stats, f"aws_{name}")

    kind, memory = of("instance_type"), of("memory_size")
    # Through a stats file a bool comes back as text.
    is_lambda = str(of("is_lambda")).lower() == "true" or kind == _LAMBDA_IN_PROFILES
    if is_lambda and kind == "lambda":
        kind = _LAMBDA_IN_PROFILES
    if isinstance(memory, float) and memory.is_integer():
        memory = int(memory)
    return (
        f"type:{kind or 'unknown'}|arch:{of('architecture') or 'unknown'}"
        f"|lambda:{is_lambda}|mem:{memory or 'unknown'}"
    )
