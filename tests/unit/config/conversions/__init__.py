"""Files of other formats, and what they are in the native one: ``NAME.native.yaml`` and ``NAME.env``.

``python -m tests.unit.config.conversions`` writes them again.
"""
