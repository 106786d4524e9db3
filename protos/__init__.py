"""The ext_proc API as .proto files, and the command that compiles them: `python -m protos.generate`."""
