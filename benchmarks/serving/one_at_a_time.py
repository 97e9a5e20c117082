"""`python -m app`, but what waits goes through the network one image at a time: what batching is measured against."""

import sys

import app.detector
import app.judge
import app.lanes
from app.__main__ import main

app.detector.MOST_AT_ONCE = app.judge.MOST_AT_ONCE = app.lanes.MOST_AT_ONCE = 1
sys.exit(main())
