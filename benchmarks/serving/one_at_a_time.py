"""`python -m app`, but what waits goes through the network one image at a time: what batching is measured against."""

import sys

import app.detection.detector
import app.judging.judge
import app.judging.queues
from app.__main__ import main

app.detection.detector.MOST_AT_ONCE = app.judging.judge.MOST_AT_ONCE = app.judging.queues.MOST_AT_ONCE = 1
sys.exit(main())
