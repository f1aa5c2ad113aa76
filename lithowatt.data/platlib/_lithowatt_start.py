"""What `lithowatt-hook.start` runs at each start of Python 3.15 and later: the `.pth` file's line.

It costs a look-up of a name per import until Lithops or FlexExecutor is imported; then
`_lithowatt_hook` is, which says the rest.

PYTEST_DONT_REWRITE: see there.
"""

import sys

_NAMES = ("lithops.worker.handler", "flexecutor.workflow.executor", "workflow.executor")


def _find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
    if name in _NAMES:
        try:
            from _lithowatt_hook import find_spec
        except KeyboardInterrupt:
            raise
        except BaseException:
            return None
        return find_spec(name, path, target)
    return None


def install() -> None:
    """Watches the imports of these modules."""
    namespace = type(sys.implementation)
    sys.meta_path.insert(0, namespace(lithowatt_hook=True, find_spec=_find_spec))  # type: ignore[arg-type]
