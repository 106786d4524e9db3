"""Base class of all sections of the configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

# Pydantic would look for plugins of its own in all packages that are installed, which takes as long as importing it. Whoever
# has some would give them every secret of the configuration.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A section: immutable, and unknown keys are errors.

    The docstrings of its fields are read where they are needed (:mod:`mcp_extproc.config.docstrings`). Pydantic would read
    them whenever a class is made, which takes longer than anything else when a worker starts.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {}
    """What to say of keys that people look for here, and that are none: where what they mean is written."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
