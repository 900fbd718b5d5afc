"""What people write by hand: FastAPI and torch. Run by benchmarks/serve.py under uvicorn.

    MODEL=model.pt uvicorn serve_by_hand:app

MODEL is an exported file, or a module as torch.save writes it (*.pth, which is trusted: it can run code).
The body is the raw uint8 pixels of one image (or, for /encoded, a PNG or JPEG file); the answer is JSON.
"""

import io
import os

import numpy as np
import torch
from fastapi import FastAPI, Request
from PIL import Image

FILE = os.environ["MODEL"]
model = torch.load(FILE, weights_only=False) if FILE.endswith(".pth") else torch.jit.load(FILE).eval()
app = FastAPI()


def answer(images: torch.Tensor) -> dict[str, list[float]]:
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        return {"probabilities": model(images)[0].tolist()}


@app.post("/raw/{channels}/{size}")
async def raw(channels: int, size: int, request: Request) -> dict[str, list[float]]:
    pixels = np.frombuffer(await request.body(), np.uint8).reshape(1, channels, size, size)
    return answer(torch.from_numpy(pixels.copy()))


@app.post("/encoded")
async def encoded(request: Request) -> dict[str, list[float]]:
    pixels = np.array(Image.open(io.BytesIO(await request.body())))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return answer(torch.from_numpy(np.ascontiguousarray(pixels))[None])


@app.get("/ready")
async def ready() -> str:
    return "ready"
