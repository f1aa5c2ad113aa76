"""`lithowatt` where aws_lambda is the emulator's: `python compare_client.py compare ...`.

Lithops writes the host that it invokes into its code; all else of it goes by the environment.
"""

import os
import sys

from lithops.serverless.backends.aws_lambda import aws_lambda

LAMBDA = os.environ["AWS_ENDPOINT_URL_LAMBDA"]
REGION = "us-east-1"


class Session(aws_lambda.URLLib3Session):
    def send(self, request):
        request.url = request.url.replace(f"https://lambda.{REGION}.amazonaws.com", LAMBDA)
        return super().send(request)


aws_lambda.URLLib3Session = Session


if __name__ == "__main__":
    from lithowatt.cli import main

    sys.exit(main())
