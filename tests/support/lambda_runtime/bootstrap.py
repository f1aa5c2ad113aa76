"""What a managed Python runtime does before it serves: paths first, then AWS' runtime client."""

import os
import site
import sys

TASK = os.environ["LAMBDA_TASK_ROOT"]
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
LAYERS = [f"/opt/python/lib/{VERSION}/site-packages", "/opt/python"]

# The function first, then the layers, then what the runtime brings along; each
# is a site directory, so that the .pth files in it are executed.
for directory in reversed([TASK, *LAYERS]):
    sys.path.insert(0, directory)
for directory in [TASK, *LAYERS]:
    if os.path.isdir(directory):
        site.addsitedir(directory)

from awslambdaric.__main__ import main  # noqa: E402

main([TASK, os.environ["_HANDLER"]])
