"""Tests of the lean transport with programs that do not come with the package: `make peers`."""
