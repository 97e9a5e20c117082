"""The online half: a FastAPI service that judges images with one artifact.

The modules, in the order in which a request meets them:

    __main__, serve, supervisor, worker, listener   processes: started, replaced, stopped, reloaded
    settings, logs, allocator                       what they are told, and what they say
    protocol                                        uvicorn's HTTP parser, with bounds
    main, envelope, tokens, routing                 the app, and what surrounds every request
    api, probes, page                               /v1, /livez and /readyz, the page
    gate, classifier, inference_protocol            in front of a classifier
    request_images, json_body, tensors              where the images are in somebody else's request
    body                                            a request's body: read, bounded, taken apart
    judge, lanes, reload                            one image -> one judgement, bounded; a new artifact
    containers, images                              bytes -> (28, 28)      these five know nothing of HTTP,
    artifact, detector                              (28, 28) -> detection  and are shared with training
    errors, problems                                the refusals, and how they are answered
    metrics, shared_metrics, drift                  what is counted
    score, scorer                                   `python -m app score`: files, offline
    score_ray, locations, row_files                 the same on many machines: of all, these alone import Ray and Arrow
"""

import os

__version__ = "0.1.0"

# ONNX Runtime's official builds send usage data to their maker from the moment they are imported, and keep a device id
# in the home folder. A gate that judges other people's images does neither, unless its operator sets the variable.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
