"""A training run, from a file of structures to a folder with a potential."""

from tfpes.training.options import DEFAULT_MINUTES, Options
from tfpes.training.run import resume, train

__all__ = ["DEFAULT_MINUTES", "Options", "resume", "train"]
