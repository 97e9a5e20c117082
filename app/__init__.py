"""The online half: a FastAPI service that judges images with one artifact."""
