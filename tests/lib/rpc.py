#!/usr/bin/python3
"""A small JSON-RPC client for the tests.

    rpc.py SOCKET METHOD [PARAMS as JSON]    prints the result, or the error and exits 1
    rpc.py SOCKET --wait                     waits until the daemon answers

As a module: Rpc(path).call(method, **params).
"""

import json
import socket
import sys
import time


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(f"{error['message']} ({error['code']})")
        self.code = error["code"]
        self.message = error["message"]


class Rpc:
    def __init__(self, path, timeout=60):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.buffer = ""
        self.next_id = 1
        self.decoder = json.JSONDecoder()

    def call(self, method, **params):
        request = {"jsonrpc": "2.0", "id": self.next_id, "method": method}
        if params:
            request["params"] = params
        self.next_id += 1
        self.sock.sendall(json.dumps(request).encode())
        reply = self.receive()
        if reply.get("id") != request["id"]:
            raise ValueError(f"an answer to something else: {reply}")
        if "error" in reply:
            raise RpcError(reply["error"])
        return reply["result"]

    def receive(self):
        while True:
            self.buffer = self.buffer.lstrip()
            try:
                reply, end = self.decoder.raw_decode(self.buffer)
                self.buffer = self.buffer[end:]
                return reply
            except ValueError:
                pass
            piece = self.sock.recv(1 << 20)
            if not piece:
                raise EOFError("the daemon has closed the connection")
            self.buffer += piece.decode()


def wait(path, seconds=30):
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Rpc(path).call("framework_wait_init")
        except (OSError, EOFError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def main():
    path, method, *params = sys.argv[1:]
    if method == "--wait":
        wait(path)
        return
    try:
        result = Rpc(path).call(method, **json.loads(params[0] if params else "{}"))
    except RpcError as error:
        sys.exit(f"{method}: {error}")
    print(result if isinstance(result, str) else json.dumps(result))


if __name__ == "__main__":
    main()
