"""envoy.config.rbac.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, config_route_v3, type_matcher_v3


class MetadataSource(StrEnum):
    DYNAMIC = "DYNAMIC"
    ROUTE = "ROUTE"


class RbacAction(StrEnum):
    ALLOW = "ALLOW"
    DENY = "DENY"
    LOG = "LOG"


class Permission(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.rbac.v3.Permission"
    any: bool | None = None
    header: config_route_v3.HeaderMatcher | None = None
    destination_port: int | None = None
    metadata: type_matcher_v3.MetadataMatcher | None = None
    not_rule: Permission | None = None
    requested_server_name: type_matcher_v3.StringMatcher | None = None
    matcher: config_core_v3.TypedExtensionConfig | None = None
    uri_template: config_core_v3.TypedExtensionConfig | None = None
    sourced_metadata: SourcedMetadata | None = None


class Policy(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.rbac.v3.Policy"
    permissions: list[Permission] = []
    principals: list[Principal] = []


class Principal(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.rbac.v3.Principal"
    and_ids: PrincipalSet | None = None
    or_ids: PrincipalSet | None = None
    any: bool | None = None
    header: config_route_v3.HeaderMatcher | None = None
    metadata: type_matcher_v3.MetadataMatcher | None = None
    not_id: Principal | None = None
    sourced_metadata: SourcedMetadata | None = None
    custom: config_core_v3.TypedExtensionConfig | None = None


class PrincipalSet(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.rbac.v3.Principal.Set"
    ids: list[Principal] = []


class Rbac(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.rbac.v3.RBAC"
    action: RbacAction = RbacAction.ALLOW
    policies: dict[str, Policy] = {}


class SourcedMetadata(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.rbac.v3.SourcedMetadata"
    metadata_matcher: type_matcher_v3.MetadataMatcher | None = None
    metadata_source: MetadataSource = MetadataSource.DYNAMIC
