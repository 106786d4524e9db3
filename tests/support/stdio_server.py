"""A stdio server without an SDK, so that it starts at once and can misbehave. It writes what its tools are told to.

Its first argument says how it starts: ``good``, or one of the ways of :func:`begin`. A ``curious`` one asks for the client's
roots when it is asked for its tools; ``curious first``, before it says which.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SLEEPER = [sys.executable, "-S", "-c", "import signal; signal.pause()"]


def say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def notify(method: str, **params: Any) -> None:
    say({"method": method, "params": params})


def hear() -> Any:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def begin(how: str, argument: str) -> None:
    """What it does before it answers anything."""
    if how == "exit":
        print(f"\x1b[31mcannot start\x1b[0m {argument}", file=sys.stderr, flush=True)
        sys.exit(int(argument))
    elif how == "junk":
        print("Listening\n{not json}\n[1]\n\n", flush=True)
    elif how == "mute":
        while True:
            hear()
    elif how == "deaf":
        signal.pause()
    elif how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif how == "when":
        while not Path(argument).exists():
            time.sleep(0.01)
    elif how == "flood":
        while True:
            notify("notifications/message", level="info", data="x" * 1000)


def ask_for_roots(*, waits: bool) -> None:
    """In no call of the client's."""
    say({"id": "roots", "method": "roots/list"})
    while waits and "roots" not in HEARD:
        note(hear())


def note(message: Any) -> None:
    """Keep an answer of the client's."""
    if "method" not in message:
        HEARD[message["id"]] = message.get("result", message.get("error"))


HEARD: dict[str, Any] = {}
"""What came in answer to its own requests that no tool waits for."""


def tool_heard(**_: Any) -> Any:
    return HEARD


def tool_env(**_: Any) -> Any:
    return dict(os.environ)


def tool_where(**_: Any) -> Any:
    return {"cwd": str(Path.cwd()), "argv": sys.argv[1:]}


def tool_open_files(**_: Any) -> Any:
    open_now = Path("/proc/self/fd")
    return {number.name: str(number.readlink()) for number in open_now.iterdir() if number.exists()}


def tool_pid(**_: Any) -> Any:
    return os.getpid()


def tool_echo(message: Any, text: str, **_: Any) -> Any:
    return {"text": text, "id": message["id"], "meta": message["params"].get("_meta")}


def tool_steps(message: Any, count: int, **_: Any) -> Any:
    for step in range(count):
        notify("notifications/progress", progressToken=message["params"]["_meta"]["progressToken"], progress=step)
    return "stepped"


def tool_say(method: str, params: Any, **_: Any) -> Any:
    notify(method, **params)
    return "said"


def tool_ask(method: str, **_: Any) -> Any:
    say({"id": "question", "method": method, "params": {}})
    while True:
        heard = hear()
        if heard.get("id") == "question":
            return heard.get("result", heard.get("error"))


def tool_until_cancelled(message: Any, quiet: bool = False, **_: Any) -> Any:
    if not quiet:
        notify("notifications/message", level="info", data="waiting")
    while True:
        heard = hear()
        if heard.get("method") == "notifications/cancelled" and heard["params"]["requestId"] == message["id"]:
            print("cancelled", file=sys.stderr, flush=True)
            return None


def tool_big(size: int, **_: Any) -> Any:
    return "x" * size


def tool_exit(code: int, words: str = "last words", **_: Any) -> Any:
    print(words, file=sys.stderr, flush=True)
    os._exit(code)


def tool_signal(number: int, **_: Any) -> Any:
    os.kill(os.getpid(), number)


def tool_silence(**_: Any) -> Any:
    os.close(sys.stdout.fileno())
    signal.pause()


def tool_shut(**_: Any) -> Any:
    os.close(sys.stdin.fileno())
    signal.pause()


def tool_start(daemon: bool, hidden: bool = False, **_: Any) -> Any:
    """A grandchild; as a daemon in a session of its own, and orphaned. A hidden one has no environment."""
    environment: dict[str, str] | None = {} if hidden else None
    if not daemon:
        return subprocess.Popen(SLEEPER, start_new_session=hidden, env=environment).pid
    options = f"start_new_session=True, stdout=2, env={environment!r}"
    script = f"import subprocess; print(subprocess.Popen({SLEEPER!r}, {options}).pid)"
    return int(subprocess.run([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE, check=True).stdout)


def tool_whisper(lines: int, **_: Any) -> Any:
    for number in range(lines):
        print(f"line {number} {os.environ.get('SECRET')}", file=sys.stderr, flush=True)
    return "whispered"


TOOLS: dict[str, Callable[..., Any]] = {
    name.removeprefix("tool_"): value for name, value in list(globals().items()) if name.startswith("tool_")
}


def answer(message: Any) -> Any:
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        capabilities = {"tools": {"listChanged": True}, "logging": {}}
        return {
            "protocolVersion": params["protocolVersion"], "capabilities": capabilities,
            "serverInfo": {"name": "stdio", "version": "1"}, "_meta": {"heard": params},
        }  # fmt: skip
    if method == "tools/list":
        if sys.argv[1] in ("curious", "curious first") and "roots" not in HEARD:
            ask_for_roots(waits=sys.argv[1] == "curious first")
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    if method == "tools/call":
        result = TOOLS[params["name"]](message=message, **params.get("arguments", {}))
        return None if result is None else {"content": [{"type": "text", "text": json.dumps(result)}]}
    return {}


def main() -> None:
    begin(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
    while True:
        message = hear()
        note(message)
        if "id" in message and "method" in message and (result := answer(message)) is not None:
            say({"id": message["id"], "result": result})


if __name__ == "__main__":
    main()
