"""The version of the library, as it is installed."""

import importlib.metadata

VERSION = importlib.metadata.version("qra-jax")
