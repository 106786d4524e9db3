"""A lean HTTP/2 server for gRPC: the part of HTTP/2 that ext_proc and gRPC health need, in conformance with RFC 9113."""
