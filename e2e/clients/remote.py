"""The same with OpenFeature's Python SDK and its OFREP provider; warnings are logged as is usual."""

import dataclasses
import json
import logging
import sys

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

logging.basicConfig(level=logging.WARNING)
question = json.load(sys.stdin)
headers = dict(question["headers"])
api.set_provider(OFREPProvider(question["url"], headers_factory=lambda: headers))
client = api.get_client()
OF = {"boolean": "boolean", "string": "string", "number": "float", "object": "object"}
answers = []
for kind, key, default, context in question["asked"]:
    attributes = {name: value for name, value in context.items() if name != "targetingKey"}
    context = EvaluationContext(context.get("targetingKey"), attributes)
    answers.append(dataclasses.asdict(getattr(client, f"get_{OF[kind]}_details")(key, default, context)))
print(json.dumps(answers, default=str))
