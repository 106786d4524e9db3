"""Our subsets of Envoy's APIs against their sources: the .proto files, and Envoy's full API in envoy-data-plane."""

import datetime as dt
import enum
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import envoy_data_plane.envoy.config.core.v3 as core
import envoy_data_plane.envoy.data.accesslog.v3 as accesslog
import envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 as filter_config
import envoy_data_plane.envoy.service.accesslog.v3 as accesslog_service
import envoy_data_plane.envoy.service.ext_proc.v3 as full_api
import envoy_data_plane.envoy.type.v3 as envoy_type
import envoy_data_plane.google.protobuf as well_known
import pytest
from betterproto2 import FieldMetadata
from google.protobuf import duration_pb2, message_factory, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

import mcp_extproc.extproc._pb as pb
import mcp_extproc.telemetry._pb as telemetry_pb
from mcp_extproc.extproc._pb import ext_proc_pb2
from mcp_extproc.telemetry._pb import access_log_pb2
from protos import envoy_types
from protos.generate import PACKAGES, generate

# Setting every field includes those that Envoy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")

FILES = (ext_proc_pb2.DESCRIPTOR, access_log_pb2.DESCRIPTOR)
PACKAGE = ext_proc_pb2.DESCRIPTOR.package

# What each of our messages and enums stands for. A new one without an entry fails.
FULL_API: dict[str, Any] = {
    "AccessLogCommon": accesslog.AccessLogCommon,
    "Address": core.Address,
    "BodyMutation": full_api.BodyMutation,
    "BodyResponse": full_api.BodyResponse,
    "CommonResponse": full_api.CommonResponse,
    "CommonResponse.ResponseStatus": full_api.CommonResponseResponseStatus,
    "GrpcStatus": full_api.GrpcStatus,
    "HTTPAccessLogEntry": accesslog.HttpAccessLogEntry,
    "HTTPAccessLogEntry.HTTPVersion": accesslog.HttpAccessLogEntryHttpVersion,
    "HTTPRequestProperties": accesslog.HttpRequestProperties,
    "HTTPResponseProperties": accesslog.HttpResponseProperties,
    "HeaderMap": core.HeaderMap,
    "HeaderMutation": full_api.HeaderMutation,
    "HeaderValue": core.HeaderValue,
    "HeaderValueOption": core.HeaderValueOption,
    "HeaderValueOption.HeaderAppendAction": core.HeaderValueOptionHeaderAppendAction,
    "HeadersResponse": full_api.HeadersResponse,
    "HttpBody": full_api.HttpBody,
    "HttpHeaders": full_api.HttpHeaders,
    "HttpStatus": envoy_type.HttpStatus,
    "HttpTrailers": full_api.HttpTrailers,
    "ImmediateResponse": full_api.ImmediateResponse,
    "Metadata": core.Metadata,
    "Pipe": core.Pipe,
    "ProcessingMode": filter_config.ProcessingMode,
    "ProcessingMode.BodySendMode": filter_config.ProcessingModeBodySendMode,
    "ProcessingMode.HeaderSendMode": filter_config.ProcessingModeHeaderSendMode,
    "ProcessingRequest": full_api.ProcessingRequest,
    "ProcessingResponse": full_api.ProcessingResponse,
    "ProtocolConfiguration": full_api.ProtocolConfiguration,
    "SocketAddress": core.SocketAddress,
    "StreamAccessLogsMessage": accesslog_service.StreamAccessLogsMessage,
    "StreamAccessLogsMessage.HTTPAccessLogEntries": accesslog_service.StreamAccessLogsMessageHttpAccessLogEntries,
    "StreamAccessLogsMessage.Identifier": accesslog_service.StreamAccessLogsMessageIdentifier,
    "StreamedBodyResponse": full_api.StreamedBodyResponse,
    "StreamedImmediateResponse": full_api.StreamedImmediateResponse,
    "TrailersResponse": full_api.TrailersResponse,
}

# Types from outside our file that its fields use.
WELL_KNOWN: dict[str, Any] = {
    "google.protobuf.BoolValue": well_known.BoolValue,
    "google.protobuf.Duration": well_known.Duration,
    "google.protobuf.Struct": well_known.Struct,
    "google.protobuf.Timestamp": well_known.Timestamp,
    "google.protobuf.UInt32Value": well_known.UInt32Value,
}

# Fields where an int32 stands for Envoy's open enum: the same bytes, and every value is allowed.
ENUM_AS_INT32 = {
    f"{PACKAGE}.HttpStatus.code": envoy_type.StatusCode,
    f"{access_log_pb2.DESCRIPTOR.package}.HTTPRequestProperties.request_method": core.RequestMethod,
}

TYPE_NAMES = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_MESSAGE: "message",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def map_value(field: FieldDescriptor) -> FieldDescriptor:
    assert field.message_type is not None
    return field.message_type.fields_by_name["value"]


def owner(field: FieldDescriptor) -> Descriptor:
    assert field.containing_type is not None
    return field.containing_type


def nested(message: Descriptor) -> Iterator[Descriptor | EnumDescriptor]:
    yield message
    yield from message.enum_types
    for inner in message.nested_types:
        if not inner.GetOptions().map_entry:
            yield from nested(inner)


def declared() -> list[Descriptor | EnumDescriptor]:
    """Every message and enum of our files, map entries aside."""
    top_level = [each for file in FILES for message in file.message_types_by_name.values() for each in nested(message)]
    return [*top_level, *(each for file in FILES for each in file.enum_types_by_name.values())]


def short_name(descriptor: Descriptor | EnumDescriptor) -> str:
    return descriptor.full_name.removeprefix(f"{descriptor.file.package}.")


def counterpart(descriptor: Descriptor | EnumDescriptor) -> Any:
    """The class of envoy-data-plane that a type of ours, or a well-known type, stands for."""
    if descriptor.full_name.startswith("google.protobuf."):
        return WELL_KNOWN[descriptor.full_name]
    return FULL_API[short_name(descriptor)]


def our_messages() -> list[Descriptor]:
    return [each for each in declared() if isinstance(each, Descriptor)]


def our_enums() -> list[EnumDescriptor]:
    return [each for each in declared() if isinstance(each, EnumDescriptor)]


def metadata(field: FieldDescriptor) -> FieldMetadata:
    return FieldMetadata.get(counterpart(owner(field)).__dataclass_fields__[field.name])


def referenced_class(field: FieldDescriptor) -> Any:
    """The message or enum class that the full API names as the type of this field (of its values, for a map)."""
    meta = metadata(field)
    if meta.unwrap is not None:
        return meta.unwrap()
    hint = typing.get_type_hints(counterpart(owner(field)))[field.name]
    candidates = [argument for argument in typing.get_args(hint) or (hint,) if argument is not type(None)]
    return candidates[-1]


def our_shape(field: FieldDescriptor) -> dict[str, object]:
    oneof = field.containing_oneof
    shape: dict[str, object] = {
        "number": field.number,
        "repeated": field.is_repeated and not is_map(field),
        "presence": field.has_presence,
        "oneof": oneof.name if oneof is not None else None,
    }
    if is_map(field):
        assert field.message_type is not None
        key, value = field.message_type.fields
        return shape | {"type": "map", "key": TYPE_NAMES[key.type], "value": TYPE_NAMES[value.type]}
    type_name = "enum" if field.full_name in ENUM_AS_INT32 else TYPE_NAMES[field.type]
    return shape | {"type": type_name}


def full_api_shape(field: FieldDescriptor) -> dict[str, object]:
    meta = metadata(field)
    shape: dict[str, object] = {
        "number": meta.number,
        "repeated": bool(meta.repeated),
        "presence": bool(meta.optional),
        "oneof": meta.group,
        "type": meta.proto_type,
    }
    if meta.map_meta is not None:
        key, value = meta.map_meta
        shape |= {"key": key.proto_type, "value": value.proto_type}
    return shape


def our_reference(field: FieldDescriptor) -> Any:
    """The class that the type of our field stands for; None for a scalar."""
    if field.full_name in ENUM_AS_INT32:
        return ENUM_AS_INT32[field.full_name]
    target = map_value(field) if is_map(field) else field
    referenced = target.message_type or target.enum_type
    return counterpart(referenced) if referenced is not None else None


# ---- The committed code is what the compiler makes ----


def test_committed_code_is_what_the_compiler_makes(tmp_path: Path) -> None:
    generate(tmp_path)
    root = Path(generate.__code__.co_filename).parents[1]
    expected = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.py*")}
    found = {
        path.relative_to(root): path.read_bytes()
        for each in PACKAGES.values()
        for path in (root / each).glob("*_pb2.py*")
    }
    assert found.keys() == expected.keys()
    stale = [str(name) for name in expected if found[name] != expected[name]]
    assert not stale, f"{stale} differ from a fresh compilation: run `python -m protos.generate` (pinned grpcio-tools)"


def test_envoys_types_are_up_to_date() -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in envoy_types.FOLDER.glob("*.py")}
    assert found == envoy_types.modules(), "run `make protos`"


def test_every_message_is_exported() -> None:
    for file, package in zip(FILES, (pb, telemetry_pb), strict=True):
        assert set(file.message_types_by_name) <= set(package.__all__)


def test_grpc_path_is_envoys() -> None:
    assert list(full_api.ExternalProcessorBase().__mapping__()) == [pb.PROCESS_PATH]
    assert list(accesslog_service.AccessLogServiceBase().__mapping__()) == [telemetry_pb.STREAM_PATH]


# ---- Every declaration is Envoy's ----


def test_mapping_is_complete() -> None:
    assert {short_name(each) for each in declared()} == FULL_API.keys()


@pytest.mark.parametrize("message", our_messages(), ids=short_name)
def test_fields_are_those_of_the_full_api(message: Descriptor) -> None:
    assert {field.name: our_shape(field) for field in message.fields} == {
        field.name: full_api_shape(field) for field in message.fields
    }


@pytest.mark.parametrize("message", our_messages(), ids=short_name)
def test_fields_refer_to_the_same_types(message: Descriptor) -> None:
    ours = {field.name: our_reference(field) for field in message.fields}
    expected = {name: referenced_class(message.fields_by_name[name]) for name, type_ in ours.items() if type_}
    assert {name: type_ for name, type_ in ours.items() if type_} == expected


@pytest.mark.parametrize("enumeration", our_enums(), ids=short_name)
def test_enum_values_are_those_of_the_full_api(enumeration: EnumDescriptor) -> None:
    ours = {value.name: value.number for value in enumeration.values}
    expected: type[enum.IntEnum] = counterpart(enumeration)
    assert ours == {name: member.value for name, member in expected.__members__.items()}


# ---- Bytes written by either side mean the same to the other ----
#
# One plain value (dicts, lists, scalars) is built into both APIs by separate code; the bytes of each, parsed by the
# other, must equal what the other built itself.

SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=20),
    FieldDescriptor.TYPE_STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: st.integers(0, 999),
}
JSON_LEAVES = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=10)
JSON_VALUES = st.recursive(
    JSON_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "google.protobuf.BoolValue": st.booleans(),
    "google.protobuf.Duration": st.timedeltas(dt.timedelta(0), dt.timedelta(days=1)),
    "google.protobuf.Struct": st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=3),
    "google.protobuf.Timestamp": st.integers(0, 2**32).map(lambda second: dt.datetime.fromtimestamp(second, dt.UTC)),
    "google.protobuf.UInt32Value": st.integers(0, 2**32 - 1),
}


def single_values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.message_type is not None:
        return message_values(field.message_type)
    return SCALARS[field.type]


def field_values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if is_map(field):
        return st.dictionaries(st.text(max_size=5), single_values(map_value(field)), max_size=2)
    values = single_values(field)
    return st.lists(values, max_size=3) if field.is_repeated else values


def message_values(message: Descriptor) -> st.SearchStrategy[Any]:
    """Plain values of a message: any of its fields, at most one of each oneof."""
    if message.full_name in SPECIAL:
        return SPECIAL[message.full_name]
    free = {field.name: field_values(field) for field in message.fields if field.containing_oneof is None}
    values: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional=free)
    for oneof in message.oneofs:
        members = [st.fixed_dictionaries({member.name: field_values(member)}) for member in oneof.fields]
        values = st.builds(lambda left, right: left | right, values, st.one_of(st.just({}), *members))
    return values


def build_ours(message: Descriptor, plain: Any) -> Message:
    built: Message = message_factory.GetMessageClass(message)()
    match built:
        case struct_pb2.Struct():
            built.update(plain)
        case wrappers_pb2.BoolValue() | wrappers_pb2.UInt32Value():
            built.value = plain
        case timestamp_pb2.Timestamp():
            built.FromDatetime(plain)
        case duration_pb2.Duration():
            built.FromTimedelta(plain)
        case _:
            for name, value in plain.items():
                set_ours(built, message.fields_by_name[name], value)
    return built


def set_ours(built: Message, field: FieldDescriptor, value: Any) -> None:
    target = getattr(built, field.name)
    if is_map(field):
        inner = map_value(field).message_type
        for key, plain in value.items():
            if inner is None:
                target[key] = plain
            else:
                target[key].CopyFrom(build_ours(inner, plain))
    elif field.message_type is None and not field.is_repeated:
        setattr(built, field.name, value)
    elif field.message_type is None:
        target.extend(value)
    elif field.is_repeated:
        target.extend(build_ours(field.message_type, plain) for plain in value)
    else:
        target.SetInParent()
        target.CopyFrom(build_ours(field.message_type, value))


def build_full_api(message: Descriptor, plain: Any) -> Any:
    if message.full_name == "google.protobuf.Struct":
        return well_known.Struct.from_dict(plain)
    if message.full_name in SPECIAL:
        return plain  # envoy-data-plane has bool and timedelta in place of these wrappers
    fields = message.fields_by_name
    return counterpart(message)(**{name: full_api_value(fields[name], value) for name, value in plain.items()})


def full_api_value(field: FieldDescriptor, value: Any) -> Any:
    if is_map(field):
        inner = map_value(field).message_type
        return {key: plain if inner is None else build_full_api(inner, plain) for key, plain in value.items()}
    enumeration = our_reference(field) if field.message_type is None else None
    if enumeration is not None:
        return enumeration(value)
    if field.message_type is None:
        return value
    if field.is_repeated:
        return [build_full_api(field.message_type, plain) for plain in value]
    return build_full_api(field.message_type, value)


def check_both_ways(message: Descriptor, plain: Any) -> None:
    ours, theirs = build_ours(message, plain), build_full_api(message, plain)
    assert counterpart(message).parse(ours.SerializeToString()) == theirs
    assert message_factory.GetMessageClass(message).FromString(bytes(theirs)) == ours


REQUEST = ext_proc_pb2.DESCRIPTOR.message_types_by_name["ProcessingRequest"]
RESPONSE = ext_proc_pb2.DESCRIPTOR.message_types_by_name["ProcessingResponse"]
LOGS = access_log_pb2.DESCRIPTOR.message_types_by_name["StreamAccessLogsMessage"]


@given(message_values(REQUEST))
def test_requests_mean_the_same_to_both(plain: Any) -> None:
    check_both_ways(REQUEST, plain)


@given(message_values(RESPONSE))
def test_responses_mean_the_same_to_both(plain: Any) -> None:
    check_both_ways(RESPONSE, plain)


@given(message_values(LOGS))
def test_access_logs_mean_the_same_to_both(plain: Any) -> None:
    check_both_ways(LOGS, plain)


FILLED: dict[int, Any] = {
    FieldDescriptor.TYPE_BOOL: True,
    FieldDescriptor.TYPE_BYTES: b"\x00\xff bytes",
    FieldDescriptor.TYPE_STRING: "text ü",
    FieldDescriptor.TYPE_UINT32: 2**32 - 1,
    FieldDescriptor.TYPE_UINT64: 2**64 - 1,
    FieldDescriptor.TYPE_INT32: 599,  # not in Envoy's enum: passes all the same
}
FILLED_SPECIAL: dict[str, Any] = {
    "google.protobuf.BoolValue": False,
    "google.protobuf.Duration": dt.timedelta(seconds=3, microseconds=250),
    "google.protobuf.Struct": {"null": None, "list": [1.5, "x", True, {}], "inner": {"key": "value"}},
    "google.protobuf.Timestamp": dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC),
    "google.protobuf.UInt32Value": 200,
}


def filled_single(field: FieldDescriptor) -> list[Any]:
    if field.enum_type is not None:
        return [field.enum_type.values[-1].number]
    if field.message_type is not None:
        return filled(field.message_type)
    return [FILLED[field.type]]


def filled_field(field: FieldDescriptor) -> list[Any]:
    if is_map(field):
        return [{"key": each} for each in filled_single(map_value(field))]
    return [[each, each] if field.is_repeated else each for each in filled_single(field)]


def filled(message: Descriptor) -> list[Any]:
    """Plain values with every field set, enough of them to see each member of each oneof."""
    if message.full_name in FILLED_SPECIAL:
        return [FILLED_SPECIAL[message.full_name]]
    # With two fields that each have variants, the shorter list repeats its last: each variant is seen, not each pair.
    free = {field.name: filled_field(field) for field in message.fields if field.containing_oneof is None}
    count = max((len(values) for values in free.values()), default=1)
    rows = [{name: values[min(i, len(values) - 1)] for name, values in free.items()} for i in range(count)]
    for oneof in message.oneofs:
        members = [{member.name: value} for member in oneof.fields for value in filled_field(member)]
        rows = [row | member for row in rows for member in members]
    return rows


@pytest.mark.parametrize("message", [REQUEST, RESPONSE, LOGS], ids=short_name)
def test_every_field_set_means_the_same_to_both(message: Descriptor) -> None:
    rows = filled(message)
    assert {name for row in rows for name in row} == set(message.fields_by_name)
    for row in rows:
        check_both_ways(message, row)
