"""envoy.extensions.clusters.common.dns.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from enum import StrEnum



class DnsLookupFamily(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    AUTO = "AUTO"
    V4_ONLY = "V4_ONLY"
    V6_ONLY = "V6_ONLY"
    V4_PREFERRED = "V4_PREFERRED"
    ALL = "ALL"
