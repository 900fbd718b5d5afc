"""A client of gRPC that writes HTTP/2 by hand."""

import socket
import time

INFER = "/inference.GRPCInferenceService/ModelInfer"


class Http2:
    """It need not finish what it begins, nor take what it is answered."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.grpc_port), timeout=30)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(4, 0, 0, b""))

    @staticmethod
    def frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def headers(self, path=INFER, timeout="1H"):
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
                  "content-type": "application/grpc", "te": "trailers", "grpc-timeout": timeout}  # fmt: skip
        return b"".join(
            b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
            for name, value in fields.items()
        )

    def call(self, stream, path=INFER, timeout="1H"):
        self.socket.sendall(self.frame(1, 4, stream, self.headers(path, timeout)))

    def data(self, stream, data):
        for start in range(0, len(data), 16384):
            self.socket.sendall(self.frame(0, 0, stream, data[start : start + 16384]))

    def closed_within(self, seconds):
        end = time.monotonic() + seconds
        self.socket.settimeout(seconds)
        try:
            while time.monotonic() < end:
                if not self.socket.recv(65536):
                    return True
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return False


def clients():
    """Make clients that are closed at the end: the body of a fixture."""
    made = []

    def make(server):
        made.append(Http2(server))
        return made[-1]

    yield make
    for client in made:
        client.socket.close()


def resident_mib(server):
    """MiB of the server's process that are in memory."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def gauge(server, name):
    """A series of the server's metrics that has no labels."""
    text = server.request("/metrics").body.decode()
    return float(text.split(f"\n{name} ")[1].split()[0])
