"""What schemathesis is told of this API alone: whose token goes with which operation, and from where requests come."""

import itertools
import json
import os
import pathlib

import schemathesis

# By operation id; "" for all others.
TOKENS = json.loads(pathlib.Path(os.environ["AUTHSOME_TOKENS"]).read_text())
numbers = itertools.count(1)


@schemathesis.auth(cache_by_key=lambda case, context: case.operation.definition.raw["operationId"])
class Tokens:
    def get(self, case, context):
        return TOKENS.get(case.operation.definition.raw["operationId"], TOKENS[""])

    def set(self, case, token, context):
        case.headers["Authorization"] = f"Bearer {token}"


@schemathesis.hook
def before_call(context, case, kwargs):
    # Requests without a token are counted by address: each comes from one of its own, by way of a proxy that is trusted.
    number = next(numbers)
    case.headers["X-Forwarded-For"] = f"203.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
