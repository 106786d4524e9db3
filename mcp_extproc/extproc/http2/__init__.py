"""A lean HTTP/2 server for gRPC: no more of HTTP/2 than ext_proc and gRPC health need, and all of that by the book."""
