"""Compiles the .proto files of this directory into the package.

    python -m protos.generate [ROOT]

writes below ROOT into the packages that speak each; ROOT is the repository unless given. The output depends only on the .proto
files and on the version of grpcio-tools, which is therefore pinned: generated code refuses to load on a protobuf
runtime older than the compiler.
"""

import importlib.resources
import sys
from pathlib import Path

from grpc_tools import protoc

_REPOSITORY = Path(__file__).resolve().parent.parent
_SOURCES = _REPOSITORY / "protos" / "mcp_extproc"
PACKAGES = {"ext_proc.proto": "mcp_extproc/extproc/_pb", "access_log.proto": "mcp_extproc/telemetry/_pb"}
"""Where each file's code is written. One that is not named here is an error."""


def generate(root: Path = _REPOSITORY) -> None:
    """Writes one `_pb2.py` and one `_pb2.pyi` per .proto file below `root`.

    Raises RuntimeError if the compiler refuses a file; it has then printed the reason to stderr.
    """
    root.mkdir(parents=True, exist_ok=True)
    well_known_types = importlib.resources.files("grpc_tools") / "_proto"
    # protoc names the module after the file's path, so the sources are mapped to where the package is.
    files = [f"{PACKAGES[source.name]}/{source.name}" for source in sorted(_SOURCES.glob("*.proto"))]
    status = protoc.main(
        [
            "protoc",
            *(f"--proto_path={package}={_SOURCES}" for package in PACKAGES.values()),
            f"--proto_path={well_known_types}",
            f"--python_out={root}",
            f"--pyi_out={root}",
            *files,
        ]
    )
    if status != 0:
        raise RuntimeError(
            f"protoc could not compile {', '.join(files)} (exit status {status}); see its messages above"
        )


if __name__ == "__main__":
    generate(*[Path(argument) for argument in sys.argv[1:2]])
