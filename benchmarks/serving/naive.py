"""The app that most people would write: it decodes, judges and validates in the event loop, one request at a time."""

from io import BytesIO

import numpy as np
import torch
from fastapi import FastAPI, UploadFile
from PIL import Image
from pydantic import BaseModel

from benchmarks.serving.torch_model import threshold, torch_model


class Prediction(BaseModel):
    is_anomaly: bool
    loss: float
    score: float
    threshold: float
    reconstruction: list[list[float]]


app = FastAPI()
model = torch_model()
limit = threshold()


@app.post("/predict")
async def predict(file: UploadFile) -> Prediction:
    picture = Image.open(BytesIO(await file.read())).convert("L").resize((28, 28))
    image = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).reshape(1, 1, 28, 28)
    with torch.no_grad():
        verdict = model(image)
    score = verdict.score.flatten()[0].item()  # of the first class of files, where there are several
    return Prediction(
        is_anomaly=score > limit,
        loss=verdict.loss.item(),
        score=score,
        threshold=limit,
        reconstruction=verdict.reconstruction[0, 0].tolist(),
    )
