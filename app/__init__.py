"""The service: judges images with one artifact, over HTTP or from the command line.

The packages, from the command line down to the image code; docs/architecture.md describes them and the way of one
request through them:

    __main__    the command line: `serve` and `score`
    server      the serving processes: start, replace, reload, drain
    main        builds the FastAPI app from the settings and the artifact
    routes      the endpoints, one module for each family of routes
    web         middleware, tokens, problem responses, routing
    payload     reads request bodies and finds the images in them
    judging     decodes and judges images, within limits on memory and time
    telemetry   metrics, drift, logs, traces
    keeping     keeps judged images for review, and estimates live rates from their labels
    offline     `python -m app score`: local files, or Ray
    detection   bytes -> 28x28 image -> score; no HTTP, shared with `training`
    settings    the GATE_* variables
    errors      every refusal, with its HTTP status
"""

import os

__version__ = "0.2.0"

# ONNX Runtime's official builds send usage data to their maker from the moment they are imported, and keep a device id
# in the home folder. A gate that judges other people's images does neither, unless its operator sets the variable.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
