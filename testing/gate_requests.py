"""Parts of the requests that carry images through the gate."""

import base64
import json
from typing import Any


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def json_request(**fields: Any) -> dict[str, Any]:
    return {"content": json.dumps(fields).encode(), "headers": {"content-type": "application/json"}}


def bytes_input(count: int, size: int) -> dict[str, Any]:
    return {"name": "x", "shape": [count], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
